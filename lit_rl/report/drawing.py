"""The parts of a drawing of an environment over an episode that can be played."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup

from lit_rl.report.bands import Band, Curve


@dataclass
class Drawing:
    """An environment over the frames of an episode, as markup of an ``Animation``.

    Attributes:
        svg: The picture at the last frame.
        title: One line of text per frame, shown above the picture.
        facts: Further names with one text per frame, shown beside the picture.
        legend: Markup of a swatch of 26 x 12 px, and what it means.
        curves: Values over the whole episode, not only over the frames shown.
        bands: Rows of blocks over the whole episode.
    """

    svg: Markup
    title: list[str]
    facts: dict[str, list[str]] = field(default_factory=dict)
    legend: list[tuple[Markup, str]] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    bands: list[Band] = field(default_factory=list)
