from __future__ import annotations

import pytest
import torch

from lit_rl.collect.uniform import UniformPolicy
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec

OBS, RESET = torch.zeros(5000, 3), torch.ones(5000, dtype=torch.bool)


def policy_for(action: ActionSpec, agents: list[str] | None = None) -> UniformPolicy:
    return UniformPolicy(EnvSpec("Toy-v0", LeafSpec([3]), action, agents or []))


def test_boxes_are_filled_between_their_bounds():
    policy = policy_for(ActionSpec("box", [2], low=[-1.0, 5.0], high=[3.0, 6.0]))
    action = policy.act(OBS, {}, RESET).action
    assert action.shape == (5000, 2)
    assert action[:, 0].min() >= -1
    assert action[:, 0].max() <= 3
    assert torch.allclose(action.mean(0), torch.tensor([1.0, 5.5]), atol=0.1)  # six standard errors: 0.1
    assert torch.allclose(action.std(0), torch.tensor([4.0, 1.0]) / 12**0.5, rtol=0.05)


def test_boxes_of_two_axes():
    policy = policy_for(ActionSpec("box", [2, 3], low=[0.0] * 6, high=[1.0] * 6))
    assert policy.act(OBS, {}, RESET).action.shape == (5000, 2, 3)


def test_every_choice_is_taken():
    action = policy_for(ActionSpec("discrete", categories=[4])).act(OBS, {}, RESET).action
    assert action.dtype == torch.int64
    assert action.bincount().tolist() == pytest.approx([1250] * 4, abs=190)  # six standard deviations


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_multi_discrete_entries_have_their_own_choices(shape: list[int]):
    action = policy_for(ActionSpec("multi_discrete", shape, [2, 5])).act(OBS, {}, RESET).action
    assert action.shape == (5000, *shape)
    assert action.view(5000, 2).amax(0).tolist() == [1, 4]


def test_agents_have_an_axis():
    policy = policy_for(ActionSpec("discrete", categories=[4]), ["a", "b"])
    obs = {"state": torch.zeros(5, 7), "observation": torch.zeros(5, 2, 3)}
    decision = policy.act(obs, policy.initial_carry(5), RESET[:5], greedy=True)
    assert decision.action.shape == (5, 2)
    assert decision.carry == {}
    assert decision.extras == {}


@pytest.mark.parametrize("bound", [float("inf"), float("-inf"), float("nan")])
def test_an_infinite_bound(bound: float):
    with pytest.raises(
        ValueError,
        match=r"random warm-up needs finite action bounds; entry \[0\] of the action of Toy-v0",
    ):
        policy_for(ActionSpec("box", [1], low=[0.0], high=[bound]))
