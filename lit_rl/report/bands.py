"""Coloured bands over a common axis: which skill was in use, and curves beside them; plain SVG, no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from markupsafe import Markup, escape

from lit_rl.report.markup import render
from lit_rl.report.words import number

WIDTH, LEFT, RIGHT = 1200, 130, 14
BAND, CURVE, GAP, AXIS = 20, 44, 5, 36
COLORS = 7
"""The page's palette has so many colours; further skills are paler, and bands show the number of a skill."""

_LETTER = 7.5
"""Width of a digit at the page's 12 px."""


class Block(NamedTuple):
    """A skill in use from one point of the axis to another."""

    begin: float
    end: float
    skill: int


class Band(NamedTuple):
    """A row of blocks."""

    label: str
    blocks: list[Block]
    is_numbered: bool = True
    """Whether blocks bear the number of their skill."""


class Curve(NamedTuple):
    """A row with a value from one point of the axis to the next; ``bottom`` and ``top`` are its ends."""

    label: str
    values: Sequence[float]
    bottom: float
    top: float
    wanted: Sequence[float] = ()
    """What the values should be, drawn as a thin line behind them."""


def blocks_of(skills: Sequence[int], ends: Sequence[float]) -> list[Block]:
    """Join neighbours of equal skill into one block; ``ends`` has one entry more than ``skills``."""
    blocks: list[Block] = []
    for skill, (begin, end) in zip(skills, pairwise(ends), strict=True):
        if blocks and blocks[-1].skill == skill:
            begin = blocks.pop().begin
        blocks.append(Block(begin, end, skill))
    return blocks


def skill_bands(
    agents: Sequence[str],
    team_skill: Sequence[int],
    agent_skills: Sequence[Sequence[int]],
    ends: Sequence[float],
) -> list[Band]:
    """Make a band for the team and one for each agent; a policy without such skills gets no such bands."""
    bands = [Band("team skill", blocks_of(team_skill, ends))] if team_skill else []
    for agent, skills in enumerate(zip(*agent_skills, strict=True)):
        name = agents[agent] if agent < len(agents) else f"agent {agent}"
        bands.append(Band(name, blocks_of(skills, ends)))
    return bands


def draw_bands(
    bands: Sequence[Band],
    low: float,
    high: float,
    axis: str,
    curves: Sequence[Curve] = (),
    cursor: str = "",
) -> Markup:
    """Draw the rows from top to bottom, curves first, over an axis from ``low`` to ``high``.

    Args:
        bands: Rows of blocks.
        low: Left end of the axis.
        high: Right end, more than ``low``.
        axis: Name of the axis.
        curves: Rows with a curve each.
        cursor: Markup that is drawn on top; :func:`height_of` says how high it may be.
    """
    height = height_of(bands, curves)
    parts = []
    top = 4.0
    for curve in curves:
        parts.append(_curve(curve, top))
        top += CURVE + GAP
    for band in bands:
        parts.append(_band(band, top, low, high))
        top += BAND + GAP
    parts.append(_axis(low, high, axis, top))
    title = f"{', '.join(row.label for row in [*curves, *bands])} over {axis}"
    rows = Markup("".join([*parts, cursor]))
    return render("bands.html", width=WIDTH, height=height, title=title, rows=rows)


def height_of(bands: Sequence[Band], curves: Sequence[Curve]) -> int:
    """Return the height of the drawing, axis included."""
    return 4 + len(curves) * (CURVE + GAP) + len(bands) * (BAND + GAP) + AXIS


def x_of(value: float, low: float, high: float) -> float:
    """Return how far from the left ``value`` lies on an axis from ``low`` to ``high``."""
    return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def ticks(low: float, high: float, count: int = 8) -> list[float]:
    """Find about ``count`` round numbers between ``low`` and ``high``."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next((factor for factor in (1, 2, 5) if factor * power >= raw * (1 - 1e-9)), 10)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 9) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def fill(skill: int) -> str:
    """Write the attributes that give a skill its colour."""
    pale = ' fill-opacity=".5"' if skill // COLORS % 2 else ""
    return f'fill="var(--c{skill % COLORS})"{pale}'


def _band(band: Band, top: float, low: float, high: float) -> str:
    paths: dict[int, str] = {}
    numbers = ""
    for block in band.blocks:
        left, right = x_of(block.begin, low, high), x_of(block.end, low, high)
        width = max(right - left - 0.8, 0.4)  # a thin gap between blocks
        paths[block.skill] = (
            paths.get(block.skill, "") + f"M{left:.1f} {top:g}h{width:.1f}v{BAND}h-{width:.1f}z"
        )
        if band.is_numbered and width > _LETTER * (len(str(block.skill)) + 0.4):
            numbers += f'<text x="{left + width / 2:.1f}" y="{top + 14:g}">{block.skill}</text>'
    shapes = "".join(f'<path d="{path}" {fill(skill)}/>' for skill, path in sorted(paths.items()))
    return f'{_label(band.label, top + 14)}{shapes}<g class="on" text-anchor="middle">{numbers}</g>\n'


def _curve(curve: Curve, top: float) -> str:
    spread = curve.top - curve.bottom or 1.0
    bottom = top + CURVE - 4
    width = (WIDTH - LEFT - RIGHT) / max(1, len(curve.values))

    def path_of(values: Sequence[float]) -> str:
        path = ""
        for k, value in enumerate(values):
            y = bottom - (value - curve.bottom) / spread * (CURVE - 8)
            path += f"{'L' if path else 'M'}{LEFT + k * width:.1f} {y:.1f}h{width:.1f}"
        return path

    style = 'text-anchor="end" font-size="10" fill="var(--muted)"'
    ends = "".join(
        f'<text x="{LEFT - 8}" y="{y:g}" {style}>{number(value, 3)}</text>'
        for value, y in ((curve.top, top + 9), (curve.bottom, bottom))
    )
    line = f'<path d="M{LEFT} {bottom:g}H{WIDTH - RIGHT}" stroke="var(--grid)"/>'
    drawn = f'<path d="{path_of(curve.values)}" fill="none" stroke="var(--c0)" stroke-width="1.5"/>'
    if len(curve.wanted):
        drawn = f'<path d="{path_of(curve.wanted)}" fill="none" stroke="var(--c1)"/>{drawn}'
    return f"{_label(curve.label, top + 26, wraps=True)}{ends}{line}{drawn}\n"


def _label(label: str, y: float, wraps: bool = False) -> str:
    x, anchor = (0, "start") if wraps else (LEFT - 8, "end")
    return f'<text x="{x}" y="{y:g}" text-anchor="{anchor}">{escape(label)}</text>'


def _axis(low: float, high: float, axis: str, top: float) -> str:
    marks = "".join(
        f'<path d="M{x_of(value, low, high):.1f} {top:g}v4" stroke="var(--muted)"/>'
        f'<text x="{x_of(value, low, high):.1f}" y="{top + 16:g}" text-anchor="middle">{value:,.10g}</text>'
        for value in ticks(low, high)
    )
    middle = (LEFT + WIDTH - RIGHT) / 2
    name = f'<text x="{middle:g}" y="{top + 32:g}" text-anchor="middle">{escape(axis)}</text>'
    return f'<path d="M{LEFT} {top:g}H{WIDTH - RIGHT}" stroke="var(--muted)"/>{marks}{name}'
