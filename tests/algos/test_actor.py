from __future__ import annotations

import torch

from lit_rl.algos.actor import Actor, default_init_mlp
from lit_rl.algos.critics import target_of
from tests.replay_toys import SPEC


@torch.no_grad()
def test_acting_in_numpy_equals_torch():
    actor = Actor(SPEC, [8, 8], None, 2, torch.tanh)
    obs = torch.randn(5, 3)
    torch.testing.assert_close(actor.fast(obs), actor(obs))
    torch.testing.assert_close(actor(obs), actor.network(obs).tanh())
    assert actor.double().fast(obs).dtype == torch.float64


@torch.no_grad()
def test_a_target_acts_by_its_own_weights():
    actor, obs = Actor(SPEC, [8], None, 2, torch.tanh), torch.randn(5, 3)
    target = target_of(actor)
    before = target.fast(obs)
    torch.testing.assert_close(before, actor.fast(obs))
    actor.network[-1].bias += 1
    assert torch.equal(target.fast(obs), before)
    assert not torch.equal(actor.fast(obs), before)


def test_default_init_mlp_ends_without_activation():
    network = default_init_mlp([3, 4, 2], "relu")
    assert [type(layer).__name__ for layer in network] == ["Linear", "ReLU", "Linear"]
    assert network[0].weight.abs().max() <= 3**-0.5
