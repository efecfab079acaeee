"""A part of the report's page."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    html: str = ""
    charts: list[Chart] = field(default_factory=list)
    note: str = ""
