"""``uav_bs_v0`` from above: gateways, UAVs with their heights, users as they are served, links, routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from lit_rl.report.animation import TEXT, Animation
from lit_rl.report.bands import Curve, ticks
from lit_rl.report.drawing import Drawing
from lit_rl.report.words import number

SIZE, LEFT, TOP, BOTTOM = 560, 64, 14, 50
_CONNECTED, _SERVED, _ALONE = "var(--c2)", "var(--c1)", "var(--muted)"
_UAV = "var(--c0)"
_LABEL_WIDTH, _LABEL_HEIGHT = 7.0, 13.0
"""A letter of a label is so many px wide, and its line so many px high."""

_NEAR = 6
"""The first so many places of a label are beside its UAV."""

Frames = Sequence[dict[str, Any]]


def draw_uav(frames: Frames, kept: Sequence[int], animation: Animation) -> Drawing:
    """Draw pictures that ``UAVNetwork`` gave; those in ``kept`` are shown."""
    shown = [frames[k] for k in kept]
    at = _Scale(shown[0]["area_m"])
    picture = [at.frame(), *_links(shown, at, animation), *_users(shown, at, animation)]
    picture += [*_gateways(shown[0], at), *_uavs(shown, at, animation)]
    num_users = len(shown[0]["users"])
    counts = [f["connected_users"] for f in frames]
    svg = (
        f'<svg viewBox="0 0 {LEFT + SIZE + 14} {TOP + SIZE + BOTTOM}" role="img" font-size="12" '
        f'fill="currentColor" aria-label="UAVs and users from above">{"".join(picture)}</svg>'
    )
    return Drawing(
        svg=Markup(svg),
        title=[
            f"t = {f['time_s']:g} s, {f['throughput_mbps']:.1f} Mbit/s, "
            f"{f['connected_users']} of {num_users} users connected"
            for f in shown
        ],
        facts={
            "coverage": [f"{f['coverage']:.0%}" for f in shown],
            "UAVs with a route": [f"{sum(map(bool, f['routes']))} of {len(f['uavs'])}" for f in shown],
            "users alone": [str(sum(link < 0 for link in f["link"])) for f in shown],
        },
        legend=[(Markup(swatch), meaning) for swatch, meaning in _LEGEND],
        curves=[Curve("connected users", counts, 0, max(1, *counts))],
    )


def _dot(color: str, radius: float) -> str:
    return f'<circle cx="13" cy="6" r="{radius}" fill="{color}"/>'


_LEGEND = (
    (_dot(_CONNECTED, 4), "user, connected"),
    (_dot(_SERVED, 4), "user, served too slowly"),
    (_dot(_ALONE, 2.5), "user, alone"),
    (f'<path d="M7 10L13 1L19 10z" fill="{_UAV}"/>', "UAV: number and height in m"),
    ('<path d="M8 1h10v10h-10z" fill="none" stroke="currentColor" stroke-width="2"/>', "gateway"),
    (f'<path d="M0 6H26" stroke="{_CONNECTED}" stroke-opacity=".7"/>', "link to the UAV that serves"),
    (f'<path d="M0 6H26" stroke="{_UAV}" stroke-width="3" stroke-opacity=".5"/>', "route to the gateway"),
)


class _Scale:
    """Metres to px of the picture."""

    def __init__(self, area_m: float) -> None:
        self.area_m = area_m

    def __call__(self, point: Sequence[float]) -> tuple[float, float]:
        x, y = point[:2]
        return LEFT + x / self.area_m * SIZE, TOP + (1 - y / self.area_m) * SIZE

    def text(self, point: Sequence[float]) -> str:
        """Write the point in whole px: ``120 45``."""
        return " ".join(f"{value:.0f}" for value in self(point))

    def frame(self) -> str:
        """Draw border, grid and axes."""
        parts = []
        for metres in ticks(0, self.area_m, 5):
            x, y = self((metres, metres))
            parts.append(f'<path d="M{x:g} {TOP}v{SIZE}M{LEFT} {y:g}h{SIZE}" stroke="var(--grid)"/>')
            parts.append(
                f'<text x="{x:g}" y="{TOP + SIZE + 24}" text-anchor="middle">{number(metres)}</text>'
            )
            parts.append(f'<text x="{LEFT - 15}" y="{y + 4:g}" text-anchor="end">{number(metres)}</text>')
        middle = f'x="{LEFT + SIZE / 2:g}" y="{TOP + SIZE + 42}" text-anchor="middle"'
        turned = f'transform="translate(12 {TOP + SIZE / 2:g}) rotate(-90)" text-anchor="middle"'
        border = f'<path d="M{LEFT} {TOP}h{SIZE}v{SIZE}h-{SIZE}z" fill="none" stroke="var(--line)"/>'
        return f"{''.join(parts)}{border}<text {middle}>x (m)</text><text {turned}>y (m)</text>"


def _links(frames: Frames, at: _Scale, animation: Animation) -> list[str]:
    access, routes = [], []
    for f in frames:
        served = [(f["users"][user], f["uavs"][uav]) for user, uav in enumerate(f["link"]) if uav >= 0]
        access.append("".join(f"M{at.text(user)}L{at.text(uav)}" for user, uav in served))
        ways = [[f["uavs"][n] if n >= 0 else f["gateways"][-1 - n] for n in route] for route in f["routes"]]
        routes.append("".join(f"M{'L'.join(map(at.text, way))}" for way in ways if way))
    thin = {"stroke": _CONNECTED, "stroke-width": 1, "stroke-opacity": 0.7}
    thick = {"fill": "none", "stroke": _UAV, "stroke-width": 3, "stroke-opacity": 0.5}
    return [animation.element("path", thin, {"d": access}), animation.element("path", thick, {"d": routes})]


def _users(frames: Frames, at: _Scale, animation: Animation) -> list[str]:
    """Draw users as dots, which are lines of no length with round ends."""
    drawn = []
    for state, color, width in ((0, _ALONE, 5), (1, _SERVED, 8), (2, _CONNECTED, 8)):
        paths = []
        for f in frames:
            states = [2 if c else int(link >= 0) for c, link in zip(f["connected"], f["link"], strict=True)]
            own = (user for user, s in zip(f["users"], states, strict=True) if s == state)
            paths.append("".join(f"M{at.text(user)}h0" for user in own))
        style = {"stroke": color, "stroke-width": width, "stroke-linecap": "round"}
        drawn.append(animation.element("path", style, {"d": paths}))
    return drawn


def _gateways(frame: dict[str, Any], at: _Scale) -> list[str]:
    corners = [at(gateway) for gateway in frame["gateways"]]
    style = 'fill="var(--back)" stroke="currentColor" stroke-width="2.5"'
    return [f'<path d="M{x - 12:g} {y - 12:g}h24v24h-24z" {style}/>' for x, y in corners]


def _uavs(frames: Frames, at: _Scale, animation: Animation) -> list[str]:
    triangles, labels = [], []
    places = _label_places(frames, at)
    for uav in range(len(frames[0]["uavs"])):
        moves = {"transform": [f"translate({at.text(f['uavs'][uav])})" for f in frames]}
        fixed = {"d": "M0 -9L9 7H-9z", "fill": _UAV, "stroke": "var(--back)"}
        triangles.append(animation.element("path", fixed, moves))
        moves = {
            "x": [f"{x:.0f}" for x, _ in places[uav]],
            "y": [f"{y:.0f}" for _, y in places[uav]],
            TEXT: [_label(uav, f) for f in frames],
        }
        labels.append(animation.element("text", {"class": "halo"}, moves))
    return [*triangles, *labels]


def _label(uav: int, frame: dict[str, Any]) -> str:
    return f"{uav}: {frame['uavs'][uav][2]:.0f} m"


def _label_places(frames: Frames, at: _Scale) -> list[list[tuple[float, float]]]:
    """Place the left end of each UAV's label in each frame, so that it covers no UAV and no other label.

    A label keeps its side of the UAV as long as there is room, unless it was driven far away.
    """
    num_uavs = len(frames[0]["uavs"])
    places: list[list[tuple[float, float]]] = [[] for _ in range(num_uavs)]
    sides = [0] * num_uavs
    for f in frames:
        points = [at(uav) for uav in f["uavs"]]
        taken = [(x - 9, y - 9, x + 9, y + 8) for x, y in points]
        for uav, (x, y) in enumerate(points):
            width = _LABEL_WIDTH * len(_label(uav, f))
            offsets = [(sign * 12 - (width if sign < 0 else 0), 4 + line * 14)
                       for line in (0, -1, 1, -2, 2, -3, 3, -4, 4, -5, 5) for sign in (1, -1)]  # fmt: skip
            near = [sides[uav]] if sides[uav] < _NEAR else []
            order = [*near, *range(len(offsets))]
            free = (k for k in order if _is_free(_box(x, y, offsets[k], width), taken))
            sides[uav] = next(free, sides[uav])
            dx, dy = offsets[sides[uav]]
            taken.append(_box(x, y, offsets[sides[uav]], width))
            places[uav].append((x + dx, y + dy))
    return places


def _box(x: float, y: float, offset: tuple[float, float], width: float) -> tuple[float, float, float, float]:
    left, base = x + offset[0], y + offset[1]
    return left, base - _LABEL_HEIGHT + 3, left + width, base + 3


def _is_free(box: tuple[float, float, float, float], taken: list[tuple[float, float, float, float]]) -> bool:
    left, top, right, bottom = box
    is_inside = left >= LEFT and right <= LEFT + SIZE and top >= TOP and bottom <= TOP + SIZE
    return is_inside and not any(left < r and l < right and top < b and t < bottom for l, t, r, b in taken)
