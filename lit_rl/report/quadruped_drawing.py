"""A quadruped: an episode from the side, which feet are on the ground, and velocity against command."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from lit_rl.report.animation import Animation
from lit_rl.report.bands import Band, Block, Curve
from lit_rl.report.drawing import Drawing

WIDTH, HEIGHT, FLOOR = 560, 320, 290
PX_PER_M = 480.0
TICK_M = 0.25
"""The floor has a mark every so many m, so that one sees it pass by."""

_COLORS = ("var(--c0)", "var(--c1)", "var(--c2)", "var(--c3)")
"""One per leg, in their order."""
_LEG_NAMES = {"FL": "front left", "FR": "front right", "RL": "rear left", "RR": "rear right"}


def draw_quadruped(frames: Sequence[dict[str, Any]], kept: Sequence[int], animation: Animation) -> Drawing:
    """Draw pictures that ``Go2Batch`` gave; those in ``kept`` are shown."""
    shown = [frames[k] for k in kept]
    legs = [str(leg) for leg in shown[0]["legs"]]
    trunk = {"d": [_path(f, f["trunk_points"]) for f in shown]}
    line = {"fill": "none", "stroke-linejoin": "round", "stroke-linecap": "round"}
    picture = [
        f'<path d="M0 {FLOOR}H{WIDTH}" stroke="currentColor"/>',
        animation.element("path", {"stroke": "var(--muted)"}, {"d": [_marks(f) for f in shown]}),
    ]
    order = sorted(range(len(legs)), key=lambda leg: legs[leg].endswith("L"), reverse=True)
    for leg in order:  # those of the far side lie behind
        moves = {"d": [_path(f, f["leg_points"][leg]) for f in shown]}
        far = ' stroke-opacity=".55"' if legs[leg].endswith("L") else ""
        style = {**line, "stroke": _COLORS[leg], "stroke-width": 7}
        element = animation.element("path", style, moves)
        picture.append(f"<g{far}>{element}</g>")
    picture.append(animation.element("path", {**line, "stroke": "currentColor", "stroke-width": 22}, trunk))
    step_s = float(shown[0]["step_s"])
    return Drawing(
        svg=Markup(
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="A quadruped from its right side">'
            f"{''.join(picture)}</svg>"
        ),
        title=[
            f"{f['velocity'][0]:.2f} m/s ahead, {f['velocity'][1]:.2f} m/s to the left, "
            f"turning by {f['velocity'][2]:.2f} rad/s"
            for f in shown
        ],
        facts={
            "time": [f"{step_s * k:.2f} s" for k in kept],
            "asked for": [
                f"{f['command'][0]:.2f}, {f['command'][1]:.2f}, {f['command'][2]:.2f}" for f in shown
            ],
            "feet on the ground": [", ".join(_on_ground(f)) or "none" for f in shown],
        },
        legend=[
            *((_line(_COLORS[leg], 5), _LEG_NAMES.get(name, name)) for leg, name in enumerate(legs)),
            (_line("var(--c1)", 1), "thin, in the curves: the velocity asked for"),
        ],
        curves=[
            _against("ahead (m/s)", frames, 0),
            _against("to the left (m/s)", frames, 1),
            _against("turning (rad/s)", frames, 2),
        ],
        bands=[_stance(frames, leg, name) for leg, name in enumerate(legs)],
    )


def _line(color: str, width: int) -> Markup:
    return Markup(f'<path d="M2 6h22" stroke="{color}" stroke-width="{width}"/>')


def _path(frame: dict[str, Any], points: Sequence[Sequence[float]]) -> str:
    """Draw a line through points in m, seen from the right side of the robot."""
    x0, y0, _ = frame["place"]
    ahead_x, ahead_y = _heading(frame)
    pixels = []
    for x, y, z in points:
        along = (x - x0) * ahead_x + (y - y0) * ahead_y
        pixels.append(f"{WIDTH / 2 + PX_PER_M * along:.1f} {FLOOR - PX_PER_M * z:.1f}")
    return "M" + "L".join(pixels)


def _heading(frame: dict[str, Any]) -> tuple[float, float]:
    """Return the horizontal direction in which the robot looks, as a vector of length 1."""
    w, x, y, z = frame["rotation"]
    ahead = 1 - 2 * (y * y + z * z), 2 * (x * y + w * z)
    length = math.hypot(*ahead) or 1.0
    return ahead[0] / length, ahead[1] / length


def _marks(frame: dict[str, Any]) -> str:
    """Draw marks of the floor, which pass by as the robot goes ahead."""
    x, y, _ = frame["place"]
    ahead_x, ahead_y = _heading(frame)
    gone = x * ahead_x + y * ahead_y
    half = WIDTH / 2 / PX_PER_M
    first, last = math.ceil((gone - half) / TICK_M), math.floor((gone + half) / TICK_M)
    return "".join(
        f"M{WIDTH / 2 + PX_PER_M * (TICK_M * k - gone):.1f} {FLOOR}v10" for k in range(first, last + 1)
    )


def _on_ground(frame: dict[str, Any]) -> list[str]:
    return [leg for leg, force in zip(frame["legs"], frame["foot_force"], strict=True) if force > 0]


def _against(label: str, frames: Sequence[dict[str, Any]], axis: int) -> Curve:
    """Make a curve of a velocity, with the one that was asked for beside it."""
    values = [float(f["velocity"][axis]) for f in frames]
    asked = [float(f["command"][axis]) for f in frames]
    return Curve(label, values, min(0.0, *values, *asked), max(0.1, *values, *asked), asked)


def _stance(frames: Sequence[dict[str, Any]], leg: int, name: str) -> Band:
    """Make a band with a block for each time that a foot is on the ground."""
    blocks: list[Block] = []
    for k, f in enumerate(frames):
        if f["foot_force"][leg] <= 0:
            continue
        begin = blocks.pop().begin if blocks and blocks[-1].end == k else k
        blocks.append(Block(begin, k + 1, leg))
    return Band(f"{name} on the ground", blocks, is_numbered=False)
