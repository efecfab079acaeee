from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.controller import JacobianTranspose, jacobian_transpose

MIXED = {"joints": [3, 4, 5, 6], "num_bodies": 256, "gear": [0.1, 0.4], "contacts": False}


@pytest.mark.parametrize("goals", ["reach", "spiral"])
def test_the_policy_and_its_compiled_twin_decide_alike(goals: str):
    arms = PlanarArms(32, **MIXED, layout="tokens", goals=goals)
    obs = arms.reset(0)
    policy = JacobianTranspose()
    for _ in range(20):
        decision = policy.act({k: torch.from_numpy(v) for k, v in obs.items()}, {}, torch.zeros(32))
        action = jacobian_transpose(arms)
        np.testing.assert_allclose(decision.action.numpy(), action, atol=2e-3)
        obs = arms.step(action).obs


def test_it_pulls_the_tip_towards_the_goal():
    """A straight arm along x, the goal to its left: every joint turns left, the first one hardest."""
    arms = PlanarArms(1, start_noise_rad=0.0, goals=[[0.2, 0.1]])
    arms.state[:] = 0.0
    arms.state[:, 2] = 1.0
    levers = np.array([0.3, 0.2, 0.1])
    np.testing.assert_allclose(jacobian_transpose(arms, kp=0.5)[0], 0.5 * levers * 0.1 / 0.2, rtol=1e-5)


def test_it_reaches_at_least_85_of_100_goals():
    arms = PlanarArms(2048, **MIXED, record=["is_success"])
    arms.reset(0)
    step = [arms.step(jacobian_transpose(arms)) for _ in range(200)][-1]
    assert step.truncated.all()
    assert step.metrics["is_success"].mean() >= 0.85


def test_as_a_policy_it_collects_and_says_what_it_needs():
    env = PlanarArms(64, **MIXED, layout="tokens", record=["is_success"])
    rollout = InlineCollector(env, 0).collect(JacobianTranspose(), 200, 0)
    assert rollout["episodes"]["last_values"]["is_success"].mean() > 0.8
    with pytest.raises(ValueError, match="layout='tokens'"):
        JacobianTranspose().act(torch.zeros(2, 14), {}, torch.zeros(2))
