from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.rewards import TERMS, write_terms

NAMES = [f"reward_{term}" for term in TERMS]


def test_terms_are_what_their_formula_says():
    terms = np.zeros((2, 5), np.float32)
    reward = write_terms(1, terms, 0.25, 0.5, 2.0, True, True)
    np.testing.assert_allclose(terms[1], [-0.25, -0.005, -0.004, 0.5, -0.1], atol=1e-6)
    assert reward == terms[1].sum(dtype=np.float64)
    assert not terms[0].any()


def test_terms_sum_to_the_reward_exactly_in_any_order():
    arms = PlanarArms(64, joints=[3, 4, 5, 6], num_bodies=64, record=NAMES, success_m=0.2)
    rng = np.random.default_rng(0)
    for _ in range(30):
        step = arms.step(rng.uniform(-2, 2, (64, 6)).astype(np.float32))
        terms = np.stack([step.metrics[name] for name in NAMES])
        assert terms.dtype == step.reward.dtype == np.float32
        np.testing.assert_array_equal(terms.sum(0), step.reward)
        np.testing.assert_array_equal(terms[::-1].sum(0, dtype=np.float64), step.reward)


def test_rewards_are_comparable_across_sizes():
    """Full torque at all joints costs an arm of six joints what it costs one of three."""
    arms = PlanarArms(2, joints=[3, 6], record=NAMES, start_noise_rad=0.0)
    arms.set_bodies(arms.bodies)
    step = arms.step(np.ones((2, 6), np.float32))
    for name, value in (("reward_effort", -0.01), ("reward_smoothness", -0.002)):
        np.testing.assert_allclose(step.metrics[name], value, atol=1e-6)


def test_what_hidden_joints_are_told_changes_nothing():
    arms, other = (PlanarArms(1, joints=3, max_joints=6, record=NAMES) for _ in range(2))
    action = np.zeros((1, 6), np.float32)
    noisy = action.copy()
    noisy[:, 3:] = 1.0
    step, twin = arms.step(action), other.step(noisy)
    np.testing.assert_array_equal(step.obs["padded"], twin.obs["padded"])
    assert step.reward == twin.reward


def test_success_is_worth_half():
    arms = PlanarArms(1, record=["is_success", "reward_success", "distance_m"], goals=[[0.3, 0.0]])
    arms.state[:] = 0.0
    arms.state[:, 2] = 1.0
    step = arms.step(np.zeros((1, 3), np.float32))
    assert step.metrics["distance_m"] == pytest.approx(0.0, abs=1e-6)
    assert step.metrics["is_success"] == 1
    assert step.reward == pytest.approx(0.5, abs=1e-5)
