"""Planar arms: the body alone, bent a little so that its links can be told apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

BEND_RAD = 0.4
"""Links point up and down by turns by so much."""

MAX_DISC = 4.0
"""Radius in px of the disc of the strongest motor, of ``STRONGEST_NM`` or more."""

STRONGEST_NM = 0.4


def draw_body(body: Mapping[str, Any], width: float, longest: float) -> str:
    """Draw an arm from its base at (0, 0) to the right.

    Args:
        body: ``lengths`` in m and ``gears`` in Nm, one number per joint.
        width: Room in px; an arm of ``longest`` m fills it but for a margin.
        longest: Length in m of the longest arm that is drawn beside it, so that lengths can be compared.
    """
    scale = (width - 8) / longest
    x = y = 0.0
    path, discs = ["M0 0"], []
    for joint, (length, gear) in enumerate(zip(body["lengths"], body["gears"], strict=True)):
        radius = 0.7 + (MAX_DISC - 0.7) * min(float(gear) / STRONGEST_NM, 1.0)
        discs.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
        angle = -BEND_RAD if joint % 2 == 0 else BEND_RAD
        x += float(length) * scale * math.cos(angle)
        y += float(length) * scale * math.sin(angle)
        path.append(f"L{x:.1f} {y:.1f}")
    links = f'<path d="{"".join(path)}" fill="none" stroke="currentColor" stroke-width="1.6"/>'
    return f"{links}{''.join(discs)}"
