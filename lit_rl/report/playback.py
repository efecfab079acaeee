"""The newest evaluation episode of each run, to be played on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from markupsafe import Markup

from lit_rl.report.animation import TEXT, Animation
from lit_rl.report.arm_drawing import draw_arm
from lit_rl.report.bands import Band, Curve, draw_bands, height_of, skill_bands, x_of
from lit_rl.report.damage import DAMAGED, object_of, reason
from lit_rl.report.drawing import Drawing
from lit_rl.report.grid_drawing import draw_grid
from lit_rl.report.markup import render
from lit_rl.report.quadruped_drawing import draw_quadruped
from lit_rl.report.runs import Group
from lit_rl.report.section import Section
from lit_rl.report.uav_drawing import draw_uav
from lit_rl.report.words import PLAYED, number, plural

FILE = "playback.json"
FORMER_FILE = "replay.json"
"""Runs of older versions hold the same content under this name."""

PLAYBACK_BYTES = 300_000
"""A playback takes so much of the page at most; a longer one leaves out frames."""

PAGE_BYTES = 600_000
"""All playbacks together take so much at most; further ones are named, not shown."""

MOST_VALUES = 2_000_000
"""All frames together have so many entries at most."""

EPISODE_MS, FRAME_MS = 20_000, (50, 400)
"""How long an episode plays, and the least and most of a frame."""

_Draw = Callable[[Sequence[dict[str, Any]], Sequence[int], Animation], Drawing]

DRAWINGS: Mapping[str, _Draw] = {
    "uav_bs_v0": draw_uav,
    "alice_and_bob": draw_grid,
    "planar_arm": draw_arm,
    "quadruped": draw_quadruped,
}
"""The ``kind`` of a picture says which function draws all of them; it is told which are shown."""

_ENDS = {"terminated": "terminated", "truncated": "truncated", "cut": "longer than was recorded"}


def playback(groups: Sequence[Group]) -> Section | None:
    """Show what the data module recorded in ``playback.json`` (with ``playback: true``)."""
    parts, size, left_out = [], 0, []
    for group in groups:
        for run in group.runs:
            name = f"{group.label}, seed {run.seed}"
            try:
                content = object_of(run.path / FILE) or object_of(run.path / FORMER_FILE)
                if not content:
                    continue
                figure = _fitting(name, content)
            except DAMAGED as error:
                parts.append(Markup("<p>{}: {}.</p>\n").format(name, reason(error, "the recorded episode")))
                continue
            if size + len(figure) > PAGE_BYTES:
                left_out.append(name)
                continue
            parts.append(figure)
            size += len(figure)
    if not parts:
        return None
    note = "The first episode of the newest evaluation."
    note += f" Not shown, to keep the page small: {'; '.join(left_out)}." if left_out else ""
    return Section("Playback", Markup().join(parts), note=note)


def _fitting(name: str, content: Mapping[str, Any]) -> Markup:
    """Make the figure with as many frames as the page has room for."""
    stride = 1
    while len(figure := _figure(name, content, stride)) > PLAYBACK_BYTES and stride < len(content["frames"]):
        stride *= 2
    return figure


def _figure(name: str, content: Mapping[str, Any], stride: int) -> Markup:
    fixed, frames = content["fixed"], content["frames"]
    if len(frames) * max(1, len(fixed)) > MOST_VALUES:
        raise ValueError("expected fewer frames")
    everything = [{**fixed, **frame} for frame in frames]
    last = len(everything) - 1
    kept = [*range(0, last, stride), last]
    animation = Animation(len(kept))
    drawing = _drawing(everything, kept, animation)
    rewards = [float(reward) for reward in content["reward"]]
    returns = list(accumulate(rewards))
    facts = {
        **drawing.facts,
        "before step": [f"{k + 1} of {last + 1}" for k in kept],
        "its reward": [number(rewards[k], 3) for k in kept],
        "return so far": [number(returns[k], 4) for k in kept],
    }
    cells = {fact: animation.element("td", {}, {TEXT: texts}) for fact, texts in facts.items()}
    title = animation.element("p", {"class": "now"}, {TEXT: drawing.title}) if drawing.title else ""
    bands = _bands(content, drawing, rewards, kept, animation)
    frame_ms = round(min(max(EPISODE_MS / len(kept), FRAME_MS[0]), FRAME_MS[1]))
    played = PLAYED[content.get("eval_policy", "greedy")]  # older files do not say: it was greedy
    about = f"{name}, {played} after {content['env_steps']} env steps: {plural(last + 1, 'step')}, "
    about += _ENDS[content["end"]]
    about += f"; one step of {stride} is shown" if stride > 1 else ""
    return render(
        "playback.html",
        about=about,
        title=title,
        drawing=drawing,
        facts=cells,
        last_frame=len(kept) - 1,
        bands=bands,
        animation=animation.data(frame_ms),
    )


def _drawing(everything: list[dict[str, Any]], kept: list[int], animation: Animation) -> Drawing:
    draw = DRAWINGS.get(str(everything[0].get("kind")))
    if draw is None:
        known = ", ".join(DRAWINGS)
        message = f"No drawing for the kind {everything[0].get('kind')!r}; there are {known}."
        return Drawing(Markup('<p class="muted">{}</p>').format(message), [])
    return draw(everything, kept, animation)


def _bands(
    content: Mapping[str, Any],
    drawing: Drawing,
    rewards: list[float],
    kept: list[int],
    animation: Animation,
) -> Markup:
    """Draw curves and skills over the whole episode, with a cursor at the frame shown."""
    end = len(rewards)
    bands: list[Band] = [*drawing.bands]
    if "skill_start" in content:
        team, agents = content.get("team_skill", []), content.get("agent_skills", [])
        bands += skill_bands(content["agents"], team, agents, range(end + 1))
    finite = [reward if math.isfinite(reward) else 0.0 for reward in rewards]
    rows = [*drawing.curves, Curve("reward", finite, min(0.0, *finite), max(0.0, *finite))]
    moves = {"transform": [f"translate({x_of(k + 0.5, 0, end):.1f} 0)" for k in kept]}
    line = {"d": f"M0 0V{height_of(bands, rows) - 34}", "stroke": "currentColor", "stroke-width": 2}
    return draw_bands(bands, 0, end, "step of the episode", rows, animation.element("path", line, moves))
