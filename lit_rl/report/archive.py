"""The archive of a run with ``MapElites``: a heat map of its cells, with the body of each drawn in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup, escape

from lit_rl.report.arm_drawing import draw_body
from lit_rl.report.damage import DAMAGED, object_of, reason
from lit_rl.report.markup import render
from lit_rl.report.runs import Group
from lit_rl.report.section import Section
from lit_rl.report.words import number, plural

FILE = "map_elites/archive.json"

PAGE_BYTES = 600_000
"""All archives together take so much of the page at most; of further ones only the table is shown."""

MOST_BODIES = 5000
"""More bodies do not fit into the page."""

WIDEST = 300
"""A grid of more used columns or rows is not drawn: it would be mostly empty."""

CELL_WIDTH, CELL_HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 56, 30, 62, 24, 8, 40
SHADES = 5
"""Shades in the legend."""

BODIES: Mapping[str, Callable[[Mapping[str, Any], float, float], str]] = {"planar_arm": draw_body}
"""The ``kind`` of a body says which function draws it; it is told the room in px and the longest body."""

_ROWS = {
    "archive": "archive of the search",
    "corrected": "the same bodies on other episodes (corrected)",
    "random": "random search, equal number of evaluations",
    "random_corrected": "its bodies on other episodes (corrected)",
}


@dataclass(frozen=True)
class Axis:
    """One measure: its name, its bounds, and into how many cells they are divided."""

    name: str
    low: float
    high: float
    cells: int

    def at(self, cell: float) -> float:
        """Return the value at the lower end of a cell; between two cells for a number that is not whole."""
        return self.low + cell * (self.high - self.low) / self.cells

    def cut(self, used: np.ndarray) -> Axis:
        """Return the part from the first to the last of the cells that are used."""
        first, last = int(used.min()), int(used.max())
        return Axis(self.name, self.at(first), self.at(last + 1), last + 1 - first)

    @property
    def words(self) -> str:
        """The name as people read it, its unit in brackets."""
        stem, _, unit = self.name.rpartition("_")
        has_unit = stem and len(unit) == 1
        return f"{stem.replace('_', ' ')} ({unit})" if has_unit else self.name.replace("_", " ")


def archive(groups: Sequence[Group]) -> Section | None:
    """Show ``map_elites/archive.json`` of each run that searched for bodies."""
    parts, size = [], 0
    for group in groups:
        for run in group.runs:
            name = f"{group.label}, seed {run.seed}"
            try:
                content = object_of(run.path / FILE)
                if not content:
                    continue
                table, drawn = _table(content), _heat_maps(content)
            except DAMAGED as error:
                parts.append(Markup("<p>{}: {}.</p>\n").format(name, reason(error, "archive.json")))
                continue
            if size + len(drawn) > PAGE_BYTES:
                drawn = Markup("<p>Its cells are not drawn, to keep the page small.</p>\n")
            parts.append(Markup("<h3>{}</h3>\n").format(name) + table + drawn)
            size += len(drawn)
    if not parts:
        return None
    note = (
        "Each cell holds the best body with such measures. The search keeps lucky bodies, too: what the same "
        "bodies reach on other episodes is the corrected archive."
    )
    return Section("Archive", Markup().join(parts), note=note)


def _table(content: Mapping[str, Any]) -> Markup:
    """Compare the archive with its correction and with random search; a line not measured says so."""
    num_cells = math.prod(int(count) for count in content["cells"])
    rows = []
    for key, label in _ROWS.items():
        found = content.get(key)
        if found is None:
            rows.append([label, "not measured", "", "", ""])
            continue
        fitness = [float(value) for value in found["objective"]]
        score = sum(fitness) - float(content["offset"]) * len(fitness)
        filled, best = f"{len(fitness) / num_cells:.1%}", number(max(fitness)) if fitness else ""
        rows.append([label, number(score), str(len(fitness)), filled, best])
    head = ["", "QD score", "elites", "cells filled", "best fitness"]
    return render("table.html", head=head, rows=rows)


def _heat_maps(content: Mapping[str, Any]) -> Markup:
    """Draw a panel for each cell of the first of three measures, or one for two; empty borders are cut."""
    axes = [
        Axis(str(name), float(low), float(high), int(cells))
        for name, (low, high), cells in zip(
            content["measures"], content["ranges"], content["cells"], strict=True
        )
    ]
    found = content["archive"]
    if not found["index"]:
        return Markup("<p>The archive is empty.</p>\n")
    if len(axes) not in (2, 3):
        text = f"Archives of two or three measures are drawn; this one has {plural(len(axes), 'measure')}."
        return Markup("<p>{}</p>\n").format(text)
    fitness = np.array(found["objective"], np.float64)
    bodies = found["bodies"]
    if len(bodies) > MOST_BODIES:
        return Markup("<p>Its {} cells are too many to draw.</p>\n").format(len(bodies))
    low, high = float(fitness.min()), float(fitness.max())
    longest = max(float(sum(body.get("lengths", ()))) for body in bodies)
    if not all(map(math.isfinite, (low, high, longest))):
        raise ValueError("expected finite numbers")
    share = (fitness - low) / (high - low) if high > low else np.ones_like(fitness)
    *first, across, up = axes
    shape = (first[0].cells if first else 1, across.cells, up.cells)
    panel, column, row = np.unravel_index(np.array(found["index"], np.int64), shape)
    if max(np.ptp(column), np.ptp(row)) >= WIDEST:
        told = " x ".join(str(axis.cells) for axis in axes)
        return Markup("<p>Its grid of {} cells is too large to draw.</p>\n").format(told)
    places = np.stack([panel, column, row], 1)[:, -len(axes) :] + 0.5  # the middles of the cells
    drawn: dict[int, list[str]] = {int(k): [] for k in np.unique(panel)}
    for k, body in enumerate(bodies):
        told = [f"{a.words} {number(a.at(cell), 3)}" for a, cell in zip(axes, places[k], strict=True)]
        title = f"{', '.join(told)}: fitness {number(float(fitness[k]), 3)}"
        x, y = int(column[k] - column.min()), int(row.max() - row[k])
        drawn[int(panel[k])].append(_cell(x, y, float(share[k]), title, _body(body, longest)))
    html = _legend(low, high)
    for k, cells in drawn.items():
        title = plural(len(cells), "elite")
        if first:
            title = f"{number(first[0].at(k + 0.5))} {first[0].words}: {title}"
        html += Markup("<h4>{}</h4>\n").format(title) + _panel(across.cut(column), up.cut(row), cells, title)
    return html


def _body(body: Mapping[str, Any], longest: float) -> str:
    """Draw a body where its kind is known, and nothing where it is not."""
    draw = BODIES.get(str(body.get("kind")))
    return draw(body, CELL_WIDTH, longest) if draw else ""


def _cell(column: int, row: int, share: float, title: str, picture: str) -> str:
    """Draw the background of one cell, its body, and what is told when the pointer rests on it."""
    square = f"M0 0h{CELL_WIDTH - 1}v{CELL_HEIGHT - 1}h-{CELL_WIDTH - 1}z"
    return (
        f'<g transform="translate({LEFT + column * CELL_WIDTH} {row * CELL_HEIGHT})">'
        f"<title>{escape(title)}</title>"
        f'<path d="{square}" fill="var(--c0)" fill-opacity="{_opacity(share):.2f}"/>'
        f'<g transform="translate(5 {CELL_HEIGHT / 2:g})">{picture}</g></g>'
    )


def _panel(across: Axis, up: Axis, cells: Sequence[str], title: str) -> Markup:
    """Draw one heat map with its two axes."""
    width, height = across.cells * CELL_WIDTH, up.cells * CELL_HEIGHT
    pieces = [f'<path d="M{LEFT} 0h{width}v{height}h-{width}z" fill="var(--grid)"/>', *cells]
    for share in (0.0, 0.5, 1.0):
        x, y = LEFT + share * width, (1 - share) * height + 4
        value = number(across.at(share * across.cells), 3)
        pieces.append(f'<text x="{x:g}" y="{height + 16}" text-anchor="middle">{value}</text>')
        value = number(up.at(share * up.cells), 3)
        pieces.append(f'<text x="{LEFT - 8}" y="{y:g}" text-anchor="end">{value}</text>')
    x, y = LEFT + width / 2, height + 34
    pieces.append(f'<text x="{x:g}" y="{y}" text-anchor="middle">{escape(across.words)}</text>')
    turned = f'transform="translate(14 {height / 2:g}) rotate(-90)"'
    pieces.append(f'<text {turned} text-anchor="middle">{escape(up.words)}</text>')
    size = (LEFT + width + RIGHT, TOP + height + BOTTOM)
    return Markup(
        f'<div class="wide"><svg width="{size[0]}" height="{size[1]}" viewBox="0 -{TOP} {size[0]} {size[1]}" '
        f'role="img" font-size="12" fill="currentColor" aria-label="{escape(title)}">'
        f"{''.join(pieces)}</svg></div>\n"
    )


def _legend(low: float, high: float) -> Markup:
    """Explain the shades from the lowest fitness to the highest."""
    items = "".join(
        f'<li><svg viewBox="0 0 26 8" aria-hidden="true"><path d="M0 0h26v8h-26z" fill="var(--c0)" '
        f'fill-opacity="{_opacity(share):.2f}"/></svg>{number(low + share * (high - low), 3)}</li>'
        for share in (k / (SHADES - 1) for k in range(SHADES))
    )
    text = "The shade is the fitness. Arms begin at the left; larger discs are stronger motors."
    return Markup('<ul class="legend">{}</ul>\n<p class="caption">{}</p>\n').format(Markup(items), text)


def _opacity(share: float) -> float:
    """Return how strong a shade is: the lowest fitness can still be told from an empty cell."""
    return 0.15 + 0.65 * share
