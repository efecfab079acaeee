"""The mirror image of a walk is a walk: states, observations, rewards and actions."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.go2 import Go2Batch
from lit_rl.envs.go2.model import JOINT_NAMES
from lit_rl.envs.go2.symmetry import mirror_critic, mirror_joints, mirror_observation


def test_legs_change_sides_and_hips_their_sign():
    source, sign = mirror_joints()
    assert [JOINT_NAMES[k] for k in source[:3]] == ["FR_hip_joint", "FR_thigh_joint", "FR_calf_joint"]
    assert sign[:3].tolist() == [-1, 1, 1]


MIRRORS = [
    mirror_joints(),
    mirror_observation(full=False),
    mirror_observation(full=True, history=3),
    mirror_critic(),
]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_mirror_of_a_mirror_changes_nothing(mirror: tuple[np.ndarray, np.ndarray]):
    source, sign = mirror
    numbers = np.random.default_rng(0).normal(size=len(source))
    once = sign * numbers[source]
    assert not np.array_equal(once, numbers)
    np.testing.assert_array_equal(sign * once[source], numbers)


def test_robots_that_do_the_mirror_image_see_the_mirror_image():
    settings = {"task": "joystick", "randomize": False, "critic": True, "resample_s": [100.0, 100.0]}
    robots = Go2Batch(2, **settings)
    robots.reset(0)
    robots._rows.command[0] = [0.6, 0.3, -0.4]
    robots._rows.command[1] = [0.6, -0.3, 0.4]
    rng = np.random.default_rng(1)
    joints, joint_sign = mirror_joints()
    pairs = {"observation": mirror_observation(full=True), "critic": mirror_critic()}
    for _ in range(40):
        action = rng.uniform(-0.5, 0.5, 12).astype(np.float32)
        step = robots.step(np.stack([action, (joint_sign * action[joints]).astype(np.float32)]))
        assert not step.terminated.any()
        assert step.reward[0] == pytest.approx(step.reward[1], abs=1e-4)
        for key, (source, sign) in pairs.items():
            first, second = step.obs[key]
            np.testing.assert_allclose(sign * first[source], second, atol=2e-3)
