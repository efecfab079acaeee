"""An image of one arm from above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SIZE_PX = 400
_FINE = 3  # drawn so many times larger, then reduced, for smooth edges
_PAPER, _INK, _FAINT = (255, 255, 255), (27, 27, 27), (222, 222, 222)
_LINKS = ((33, 102, 172), (103, 169, 207))
_GOAL, _REACHED, _OBSTACLE = (215, 48, 39), (26, 152, 80), (120, 120, 120)


class Scene(NamedTuple):
    """What is drawn; lengths in m.

    Attributes:
        places: x and y of the joints and of the tip, ``(joints + 1, 2)``.
        radius_m: Half the thickness of each link.
        reach_m: Lengths of all links together.
        goal: x and y.
        success_m: Radius of the goal.
        obstacles: x, y and radius of each.
        step: Steps since the start of the episode.
    """

    places: np.ndarray
    radius_m: np.ndarray
    reach_m: float
    goal: np.ndarray
    success_m: float
    obstacles: Sequence[Sequence[float]]
    step: int


def draw(scene: Scene) -> np.ndarray:
    """RGB image ``(400, 400, 3)`` uint8 of an arm.

    The thin circle is its reach, the ring is the goal (green once the tip is inside), grey discs are
    obstacles; links are as thick as they are. Step, distance and joints stand on top.
    """
    from PIL import Image, ImageDraw, ImageFont

    places, radius_m, reach_m, goal, success_m, obstacles, step = scene
    n = len(radius_m)
    extent = 1.12 * max(reach_m, *np.abs(goal).tolist())
    side = SIZE_PX * _FINE
    scale = side / (2 * extent)

    def pixel(point: np.ndarray) -> tuple[float, float]:
        return side / 2 + scale * float(point[0]), side / 2 - scale * float(point[1])

    image = Image.new("RGB", (side, side), _PAPER)
    pen = ImageDraw.Draw(image)

    def disc(centre: np.ndarray, radius_m: float, **style: object) -> None:
        x, y = pixel(centre)
        r = max(scale * radius_m, 2.0 * _FINE)
        pen.ellipse((x - r, y - r, x + r, y + r), **style)  # pyright: ignore[reportArgumentType]

    disc(np.zeros(2), reach_m, outline=_FAINT, width=_FINE)
    for x, y, radius in obstacles:
        disc(np.array([x, y]), radius, fill=_OBSTACLE)
    distance = float(np.hypot(*(goal - places[n])))
    colour = _REACHED if distance < success_m else _GOAL
    disc(goal, success_m, outline=colour, width=2 * _FINE)
    for i in range(n):
        width = max(2 * scale * float(radius_m[i]), 3.0 * _FINE)
        pen.line([pixel(places[i]), pixel(places[i + 1])], fill=_LINKS[i % 2], width=round(width))
        for end in (places[i], places[i + 1]):
            disc(end, width / 2 / scale, fill=_LINKS[i % 2])
    for i in range(n):
        disc(places[i], 0.4 * float(radius_m[i]), fill=_PAPER)
    disc(places[n], 0.4 * float(radius_m[-1]), fill=_INK)
    image = image.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)
    text = f"step {step}   distance {100 * distance:.1f} cm   {n} joints"
    ImageDraw.Draw(image).text((10, 8), text, fill=_INK, font=ImageFont.load_default(14))
    return np.asarray(image)
