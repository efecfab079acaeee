"""Alice and Bob: the grid with buttons, diamonds and the two agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from lit_rl.report.animation import Animation
from lit_rl.report.drawing import Drawing

CELL = 40
WIDEST = 200
"""A grid has so many cells on a side at most."""

_AGENTS = (("A", "var(--c1)"), ("B", "var(--c0)"))
_PAIRS = ("var(--c3)", "var(--c2)")

_LEGEND = (
    *((f'<circle cx="13" cy="6" r="6" fill="{color}"/>', f"{letter}: {name}")
      for (letter, color), name in zip(_AGENTS, ("Alice", "Bob"), strict=True)),
    ('<path d="M8 1h10v10h-10z" fill="none" stroke="currentColor"/>', "button"),
    ('<path d="M13 0L19 6L13 12L7 6z" fill="none" stroke="currentColor"/>', "diamond; full: reached"),
)  # fmt: skip

Frames = Sequence[dict[str, Any]]


def draw_grid(frames: Frames, kept: Sequence[int], animation: Animation) -> Drawing:
    """Draw pictures that ``AliceAndBob`` gave; those in ``kept`` are shown."""
    shown = [frames[k] for k in kept]
    first = shown[0]
    side = int(first["side"])
    if not 0 < side <= WIDEST:
        raise ValueError(f"expected a side of 1 to {WIDEST} cells, got {side}")
    picture = [_cells(side)]
    for pair, color in enumerate(_PAIRS):
        x, y = _middle(first["buttons"][pair], side)
        square = f'<path d="M{x - 13} {y - 13}h26v26h-26z" fill="none" stroke="{color}" stroke-width="2.5"/>'
        picture.append(square + _letter(str(pair + 1), x, y, color))
        x, y = _middle(first["diamonds"][pair], side)
        moves = {"fill": [color if f["reached"][pair] else "none" for f in shown]}
        fixed = {
            "d": f"M{x} {y - 16}L{x + 16} {y}L{x} {y + 16}L{x - 16} {y}z",
            "stroke": color,
            "stroke-width": 2.5,
        }
        picture += [animation.element("path", fixed, moves), _letter(str(pair + 1), x, y, color)]
    picture += [_agent(agent, shown, side, animation) for agent in range(2)]
    size = side * CELL
    svg = (
        f'<svg viewBox="0 0 {size} {size}" role="img" font-size="14" fill="currentColor" '
        f'aria-label="Alice and Bob on their grid">{"".join(picture)}</svg>'
    )
    return Drawing(
        svg=Markup(svg),
        title=[f"{sum(f['reached'])} of 2 diamonds reached" for f in shown],
        legend=[(Markup(swatch), meaning) for swatch, meaning in _LEGEND],
    )


def _cells(side: int) -> str:
    """Draw free cells with lines between them, inside a wall."""
    size, inside = side * CELL, (side - 2) * CELL
    lines = "".join(f"M{k * CELL} {CELL}v{inside}M{CELL} {k * CELL}h{inside}" for k in range(1, side))
    wall = f'<path d="M0 0h{size}v{size}h-{size}z" fill="var(--line)"/>'
    floor = f'<path d="M{CELL} {CELL}h{inside}v{inside}h-{inside}z" fill="var(--back)"/>'
    return f'{wall}{floor}<path d="{lines}" fill="none" stroke="var(--line)"/>'


def _middle(cell: Sequence[int], side: int) -> tuple[int, int]:
    """Return the middle of cell (x, y) in px; y points upwards."""
    return cell[0] * CELL + CELL // 2, (side - 1 - cell[1]) * CELL + CELL // 2


def _agent(agent: int, frames: Frames, side: int, animation: Animation) -> str:
    """Draw a disc with a letter, beside the middle where both agents are in one cell."""
    letter, color = _AGENTS[agent]
    places = []
    for f in frames:
        x, y = _middle(f["agents"][agent], side)
        shift = (-8, 8)[agent] if f["agents"][0] == f["agents"][1] else 0
        places.append(f"translate({x + shift} {y})")
    disc = f'<circle r="12" fill="{color}" stroke="var(--back)"/>'
    inside = Markup(f'{disc}<text class="on" y="5" text-anchor="middle">{letter}</text>')
    return animation.element("g", {}, {"transform": places}, inside)


def _letter(letter: str, x: int, y: int, color: str) -> str:
    return f'<text class="halo" x="{x}" y="{y + 5}" text-anchor="middle" fill="{color}">{letter}</text>'
