"""Planar arms: an episode from above, and the body alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from lit_rl.report.animation import Animation
from lit_rl.report.bands import Curve
from lit_rl.report.drawing import Drawing
from lit_rl.report.words import plural

SIDE = 420
"""Width and height in px of the drawing of an episode."""

BEND_RAD = 0.4
"""Links of a body that is drawn alone point up and down by turns by so much."""

SMALL_DISC, LARGE_DISC = 0.7, 4.0
"""Radius in px of the disc of a motor without torque, and of one of ``STRONGEST_NM`` or more."""

STRONGEST_NM = 0.4

_LINK, _AWAY, _REACHED = "var(--c0)", "var(--c1)", "var(--c2)"
_LEGEND = (
    ('<circle cx="13" cy="6" r="5" fill="none" stroke="var(--c1)" stroke-width="2"/>', "goal, not reached"),
    ('<circle cx="13" cy="6" r="5" fill="none" stroke="var(--c2)" stroke-width="2"/>', "goal, reached"),
    ('<circle cx="13" cy="6" r="5" fill="none" stroke="var(--line)"/>', "as far as the arm reaches"),
)


def draw_arm(frames: Sequence[dict[str, Any]], kept: Sequence[int], animation: Animation) -> Drawing:
    """Draw pictures that ``PlanarArms`` gave; those in ``kept`` are shown."""
    shown = [frames[k] for k in kept]
    extent = 1.08 * max(max(f["reach_m"], *map(abs, f["goal"])) for f in shown)
    scale = SIDE / (2 * extent)

    def px(place: Sequence[float]) -> str:
        return f"{SIDE / 2 + scale * place[0]:.1f} {SIDE / 2 - scale * place[1]:.1f}"

    middle = SIDE / 2
    reach = {"r": [f"{scale * f['reach_m']:.1f}" for f in shown]}
    obstacles = [
        f'<circle cx="{middle + scale * x:.1f}" cy="{middle - scale * y:.1f}" r="{scale * radius:.1f}" '
        'fill="var(--muted)"/>'
        for x, y, radius in shown[0]["obstacles"]
    ]
    goal = {
        "transform": [f"translate({px(f['goal'])})" for f in shown],
        "stroke": [_REACHED if _distance(f) < f["success_m"] else _AWAY for f in shown],
    }
    ring = {"r": f"{max(scale * shown[0]['success_m'], 4):.1f}", "fill": "none", "stroke-width": 2}
    links = {"d": ["M" + "L".join(map(px, f["places"])) for f in shown]}
    line = {"fill": "none", "stroke": _LINK, "stroke-width": 7, "stroke-linejoin": "round"}
    joints = {"d": ["".join(f"M{px(place)}h0" for place in f["places"]) for f in shown]}
    dots = {"fill": "none", "stroke": "var(--back)", "stroke-width": 4, "stroke-linecap": "round"}
    circle = {"cx": middle, "cy": middle, "fill": "none", "stroke": "var(--line)"}
    picture = [
        animation.element("circle", circle, reach),
        *obstacles,
        animation.element("circle", ring, goal),
        animation.element("path", {**line, "stroke-linecap": "round"}, links),
        animation.element("path", dots, joints),
    ]
    distances = [_distance(f) for f in frames]
    return Drawing(
        svg=Markup(
            f'<svg viewBox="0 0 {SIDE} {SIDE}" role="img" aria-label="A planar arm from above">'
            f"{''.join(picture)}</svg>"
        ),
        title=[
            f"{plural(len(f['places']) - 1, 'joint')}, {100 * _distance(f):.1f} cm from the goal"
            for f in shown
        ],
        legend=[(Markup(swatch), meaning) for swatch, meaning in _LEGEND],
        curves=[Curve("distance (m)", distances, 0.0, max(distances))],
    )


def _distance(frame: Mapping[str, Any]) -> float:
    """Return how far the tip is from the goal, in m."""
    return math.dist(frame["places"][-1], frame["goal"])


def draw_body(body: Mapping[str, Any], width: float, longest: float) -> str:
    """Draw an arm from its base at (0, 0) to the right, bent so that its links can be told apart.

    Args:
        body: ``lengths`` in m and ``gears`` in Nm, one number per joint.
        width: Room in px; an arm of ``longest`` m fills it but for a margin.
        longest: Length in m of the longest arm that is drawn beside it, so that lengths can be compared.
    """
    scale = (width - 8) / longest
    x = y = 0.0
    path, discs = ["M0 0"], []
    for joint, (length, gear) in enumerate(zip(body["lengths"], body["gears"], strict=True)):
        radius = SMALL_DISC + (LARGE_DISC - SMALL_DISC) * min(float(gear) / STRONGEST_NM, 1.0)
        discs.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
        angle = -BEND_RAD if joint % 2 == 0 else BEND_RAD
        x += float(length) * scale * math.cos(angle)
        y += float(length) * scale * math.sin(angle)
        path.append(f"L{x:.1f} {y:.1f}")
    links = f'<path d="{"".join(path)}" fill="none" stroke="currentColor" stroke-width="1.6"/>'
    return f"{links}{''.join(discs)}"
