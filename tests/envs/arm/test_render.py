from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.arm import PlanarArm
from lit_rl.envs.arm.batch import PlanarArms


def test_places_are_those_of_straight_links():
    arms = PlanarArms(1, joints=3)
    arms.state[0, 2, :3], arms.state[0, 3, :3] = [0, 1, 1], [1, 0, 0]  # first joint at a right angle
    np.testing.assert_allclose(arms.joint_places(0), [[0, 0], [0, 0.1], [0, 0.2], [0, 0.3]], atol=1e-7)


def test_the_image_shows_arm_goal_and_obstacles():
    arms = PlanarArms(2, joints=3, obstacles=[[-0.2, -0.2, 0.05]], goals=[[0.0, 0.2]], start_noise_rad=0.0)
    arms.state[:] = 0.0
    arms.state[:, 2] = 1.0  # straight to the right
    image = arms.frame(1)
    assert image.shape == (400, 400, 3)
    assert image.dtype == np.uint8

    def colour(x: float, y: float) -> list[int]:
        scale = 200 / (1.12 * 0.3)
        return image[round(200 - scale * y), round(200 + scale * x)].tolist()

    assert colour(0.05, 0.0) == [33, 102, 172]
    assert colour(0.15, 0.0) == [103, 169, 207]
    assert colour(-0.2, -0.2) == [120, 120, 120]
    is_red = np.abs(image - np.array([215.0, 48.0, 39.0])).max(-1) < 60
    rows, columns = np.nonzero(is_red)
    radius = np.hypot(rows - (200 - 0.2 * 200 / 0.336), columns - 200) * 0.336 / 200
    assert len(rows) > 30
    np.testing.assert_allclose(radius, 0.0185, atol=0.003)  # a ring of 2 cm, drawn inwards
    assert colour(-0.15, 0.1) == [255, 255, 255]


def test_one_arm_renders_and_a_batch_names_what_there_is():
    env = PlanarArm(render_mode="rgb_array")
    env.reset(seed=0)
    image = env.render()
    assert image is not None
    assert image.shape == (400, 400, 3)
    assert PlanarArm().render() is None
    with pytest.raises(IndexError, match="env must be from 0 to 1, got 2"):
        PlanarArms(2).frame(2)
