"""A quadruped on the page: what its environment tells of it, its gait, and velocity against command."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.data.playback import PlaybackRecorder
from lit_rl.envs.go2 import Go2Batch
from lit_rl.report.animation import Animation
from lit_rl.report.bands import Block
from lit_rl.report.html import write_report
from lit_rl.report.quadruped_drawing import FLOOR, PX_PER_M, WIDTH, draw_quadruped
from lit_rl.types import Decision


def frame(x: float, force: list[float]) -> dict[str, Any]:
    return {
        "kind": "quadruped", "legs": ["FL", "FR", "RL", "RR"], "step_s": 0.02, "place": [x, 0.0, 0.3],
        "rotation": [1.0, 0.0, 0.0, 0.0], "trunk_points": [[x - 0.19, 0, 0.3], [x + 0.19, 0, 0.3]],
        "leg_points": [[[x + 0.1 * leg, 0, 0.3], [x, 0, 0]] for leg in range(4)],
        "command": [1.0, 0.0, 0.5], "velocity": [0.8, -0.1, 0.25], "foot_force": force,
    }  # fmt: skip


def test_the_picture_says_where_trunk_and_legs_are():
    robots = Go2Batch(2, randomize=False, task="joystick")
    robots.reset(0)
    for _ in range(60):
        robots.step(np.zeros((2, 12), np.float32))
    picture = robots.picture(1)
    sims = robots._simulations
    feet = [points[-1] for points in picture["leg_points"]]
    sims.forward(None)
    geoms = sims.bind("geom_xpos")
    sims.forward(None)
    of_feet = [sims.model.geom(leg).id for leg in picture["legs"]]
    np.testing.assert_allclose(feet, geoms[1, of_feet], atol=3e-3)
    assert all(force > 20 for force in picture["foot_force"])  # it stands on all four
    assert picture["velocity"] == pytest.approx([0, 0, 0], abs=0.05)
    json.dumps(picture, allow_nan=False)
    with pytest.raises(IndexError, match="env must be from 0 to 1, got 2"):
        robots.picture(2)


def test_gait_and_velocity_are_drawn():
    frames = [frame(0.02 * k, [10.0, 0.0, 0.0, 5.0 * (k % 2)]) for k in range(4)]
    animation = Animation(2)
    drawing = draw_quadruped(frames, [0, 3], animation)
    assert [band.label for band in drawing.bands][:2] == ["FL on the ground", "FR on the ground"]
    assert [band.blocks for band in drawing.bands] == [
        [Block(0, 4, 0)], [], [], [Block(1, 2, 3), Block(3, 4, 3)],
    ]  # fmt: skip
    ahead, _, turning = drawing.curves
    assert ahead.values == [0.8] * 4
    assert ahead.wanted == [1.0] * 4
    assert (turning.bottom, turning.top) == (0.0, 0.5)
    assert drawing.facts["feet on the ground"] == ["FL", "FL, RR"]
    middle, top = WIDTH / 2, FLOOR - 0.3 * PX_PER_M
    assert (
        f"M{middle - 0.19 * PX_PER_M:.1f} {top:.1f}L{middle + 0.19 * PX_PER_M:.1f} {top:.1f}" in drawing.svg
    )


def test_a_recorded_episode_of_a_quadruped_is_on_the_page(make_run):
    run = make_run("a", env="GO2-v0")
    robots = Go2Batch(1, max_traj_length=12)
    robots.reset(0)
    recorder = PlaybackRecorder(robots, run / "playback.json", 500, "greedy")
    for _ in range(12):
        recorder.on_step(True)
        action = torch.zeros(1, 12)
        recorder.on_transition(Decision(action, {}, {}), robots.step(action.numpy()))
    recorder.save()
    page = write_report([run], run / "report.html").read_text()
    assert "A quadruped from its right side" in page
    assert "FL on the ground" in page
    assert "ahead (m/s)" in page
    assert "truncated" in page
