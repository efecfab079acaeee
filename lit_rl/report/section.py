"""A part of the report's page."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from lit_rl.report.curves import Chart


@dataclass
class Section:
    """One part of the page.

    Attributes:
        title: Heading.
        html: Markup before the charts.
        charts: Drawn by the page's script.
        note: Text under the heading.
    """

    title: str
    html: Markup = field(default_factory=Markup)
    charts: list[Chart] = field(default_factory=list)
    note: str = ""
