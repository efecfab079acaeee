"""An arm on the page: what its environment tells of it, and the places at which it is drawn."""

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.data.playback import PlaybackRecorder
from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.report.animation import Animation
from lit_rl.report.arm_drawing import SIDE, draw_arm
from lit_rl.report.html import write_report
from lit_rl.types import Decision


def frame(places: list[list[float]], goal: list[float]) -> dict[str, Any]:
    return {
        "kind": "planar_arm", "places": places, "reach_m": 0.5, "goal": goal, "success_m": 0.02,
        "obstacles": [[0.25, 0.0, 0.05]],
    }  # fmt: skip


def test_the_picture_says_where_the_arm_and_its_goal_are():
    arms = PlanarArms(2, joints=3, goals=[[0.1, 0.2], [0.0, 0.25]], start_noise_rad=0.0)
    arms.reset(0)
    picture = arms.picture(1)
    np.testing.assert_allclose(picture["places"], arms.joint_places(1), atol=1e-4)
    links = [math.dist(a, b) for a, b in zip(picture["places"][:-1], picture["places"][1:], strict=True)]
    assert links == pytest.approx([0.1] * 3, abs=2e-4)
    assert (picture["reach_m"], picture["goal"], picture["success_m"]) == (0.3, [0.0, 0.25], 0.02)
    json.dumps(picture, allow_nan=False)
    with pytest.raises(IndexError, match="env must be from 0 to 1, got 2"):
        arms.picture(2)


def test_an_episode_is_drawn_to_scale():
    away = frame([[0, 0], [0.5, 0]], [0.0, 0.25])
    there = frame([[0, 0], [0.0, 0.25]], [0.0, 0.26])
    animation = Animation(2)
    drawing = draw_arm([away, there], [0, 1], animation)
    scale = SIDE / (2 * 1.08 * 0.5)
    x, y = SIDE / 2 + 0.5 * scale, SIDE / 2 - 0.25 * scale
    moves: dict[str, list[Any]] = {}
    for _, attribute, values in animation.data(50)["tracks"]:
        moves.setdefault(attribute, values)  # the links come before the joints
    assert moves["stroke"] == ["var(--c1)", "var(--c2)"]  # 1 cm away counts as reached
    ends = [f"M210.0 210.0L{x:.1f} 210.0", f"M210.0 210.0L210.0 {y:.1f}"]
    assert moves["d"] == ends
    assert drawing.title == ["1 joint, 55.9 cm from the goal", "1 joint, 1.0 cm from the goal"]
    assert drawing.curves[0].values == pytest.approx([math.hypot(0.5, 0.25), 0.01])
    assert f'r="{0.05 * scale:.1f}" fill="var(--muted)"' in drawing.svg


def test_a_recorded_episode_of_an_arm_is_on_the_page(make_run):
    run = make_run("a", env="PlanarArm-v0")
    arms = PlanarArms(1, joints=[3, 6], num_bodies=4, num_steps=12)
    observation = arms.reset(0)
    recorder = PlaybackRecorder(arms, run / "playback.json", 640, "greedy")
    for _ in range(12):
        recorder.on_step(is_running=True)
        action = np.zeros((1, 6), np.float32)
        step = arms.step(action)
        recorder.on_transition(Decision(torch.from_numpy(action), (), {}), step)
    recorder.save()
    assert observation is not None
    text = write_report([run]).read_text()
    assert "A planar arm from above" in text
    assert "12 steps, truncated" in text
    assert re.search(r"\d joints, [\d.]+ cm from the goal", text)
