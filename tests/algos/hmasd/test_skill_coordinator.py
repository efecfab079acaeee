"""The coordinator: probabilities that sum to one, decisions that replay, skills of two numbers."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl.algos.hmasd.decisions import Decisions
from lit_rl.algos.hmasd.skill_coordinator import SkillCoordinator
from lit_rl.flat import FlatAdam
from lit_rl.ranks import Ranks

AGENTS, STATE, OBSERVATION = 2, 5, 4


def coordinator(n_Z: int = 3, n_z: int = 2, **arguments: Any) -> SkillCoordinator:
    """With large random weights, so that decisions depend on everything."""
    torch.manual_seed(0)
    module = SkillCoordinator(n_Z, n_z, width=8, **arguments)
    module.build(STATE, OBSERVATION)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.7)
    return module


def seen(batch: int) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, STATE), torch.randn(batch, AGENTS, OBSERVATION)


@torch.no_grad()
@pytest.mark.parametrize(("n_Z", "n_z"), [(3, 2), (2, 4), (1, 1), (2, 2)])
def test_joint_probabilities_sum_to_one(n_Z: int, n_z: int):
    module = coordinator(n_Z, n_z)
    state, obs = seen(1)
    everything = torch.tensor(list(product(range(n_Z), range(n_z), range(n_z))))
    log_prob, entropy, _ = module(
        state.expand(len(everything), -1), obs.expand(len(everything), -1, -1), everything
    )
    torch.testing.assert_close(log_prob.sum(1).exp().sum(), torch.tensor(1.0))
    first = torch.stack([log_prob[everything[:, 0] == z, 0][0] for z in range(n_Z)])
    torch.testing.assert_close(entropy[0, 0], -(first.exp() * first).sum())


@torch.no_grad()
@pytest.mark.parametrize("blocks", [1, 2])
def test_decisions_replay(blocks: int):
    module = coordinator(num_blocks=blocks, heads=2)
    state, obs = seen(64)
    skills, log_prob = module.decide(state, obs, greedy=False)
    assert skills[:, 0].max() <= 2
    assert skills[:, 1:].max() == 1
    replayed, _, _ = module(state, obs, skills)
    assert (replayed - log_prob).abs().max() < 1e-6


@torch.no_grad()
def test_frequencies_are_the_probabilities():
    module = coordinator()
    state, obs = seen(1)
    skills, log_prob = module.decide(state.expand(20_000, -1), obs.expand(20_000, -1, -1), greedy=False)
    for chosen in skills.unique(dim=0):
        is_chosen = (skills == chosen).all(1)
        expected = log_prob[is_chosen][0].sum().exp()
        assert is_chosen.float().mean() == pytest.approx(expected.item(), abs=0.015)


@torch.no_grad()
def test_greedy_takes_the_likeliest_token_by_token():
    module = coordinator()
    state, obs = seen(16)
    skills, _ = module.decide(state, obs, greedy=True)
    for token in range(AGENTS + 1):
        others = []
        for skill in range(3 if token == 0 else 2):
            changed = skills.clone()
            changed[:, token] = skill
            others.append(module(state, obs, changed)[0][:, token])
        assert torch.equal(torch.stack(others).argmax(0), skills[:, token])


@torch.no_grad()
def test_a_token_depends_on_those_before_it_alone():
    module = coordinator()
    state, obs = seen(8)
    skills, _ = module.decide(state, obs, greedy=False)
    log_prob, _, value = module(state, obs, skills)
    for token in range(AGENTS + 1):
        changed = skills.clone()
        changed[:, token] = 1 - changed[:, token].clamp(max=1)
        other, _, other_value = module(state, obs, changed)
        assert torch.equal(other[:, :token], log_prob[:, :token])
        assert not torch.equal(other[:, token:], log_prob[:, token:])
        assert torch.equal(other_value, value)  # values read the encoder, not the decisions


@torch.no_grad()
def test_every_agent_has_a_value_of_what_all_see():
    module = coordinator()
    state, obs = seen(1)
    other = obs.clone()
    other[0, 1, 0] += 1
    value, changed = (module.value(module.encode(state, o)) for o in (obs, other))
    assert (value != changed).all()


def decisions(module: SkillCoordinator, batch: int = 64) -> Decisions:
    """The first team skill is good, and so is the same skill for both agents."""
    state, obs = seen(batch)
    with torch.no_grad():
        skills, log_prob = module.decide(state, obs, greedy=False)
        value = module.value(module.encode(state, obs))
    good = (skills[:, 0] == 0).float() - 0.5
    same = (skills[:, 1] == skills[:, 2]).float() - 0.5
    advantage = torch.stack([good, torch.zeros_like(good), same], 1)
    return Decisions(
        state, obs, skills, log_prob, value, advantage, torch.ones_like(value), torch.ones_like(value)
    )


def test_learns_who_decides_well():
    module = coordinator(learning_rate=0.01, entropy_coef=0.0, clip=0.2)
    optimizer = FlatAdam(module, 0.01, 1e-5, 10.0)
    before, after, losses = [], [], []
    for update in range(25):
        batch = decisions(module)
        shares = (
            (batch.skills[:, 0] == 0).float().mean(),
            (batch.skills[:, 1] == batch.skills[:, 2]).float().mean(),
        )
        (before if update < 2 else after).append(shares)
        losses.append(module.learn(batch, optimizer, Ranks())["value"])
    assert min(after[-1]) > 0.95
    assert max(before[0]) < 0.8
    assert losses[-1] < 0.1


def test_loss_by_hand():
    """Before the first step ratios are 1: the surrogate is minus the mean advantage."""
    module = coordinator(entropy_coef=0.3, value_coef=0.5, clip_value=None, huber_delta=None)
    batch = decisions(module)
    _, entropy, value = module(batch.state, batch.obs, batch.skills)
    policy, error, total, log_ratio = module._loss(batch, 0.2)
    torch.testing.assert_close(policy, -batch.advantage.mean())
    torch.testing.assert_close(error, (value - 1).square().mean())
    torch.testing.assert_close(total, policy + 0.5 * error - 0.3 * entropy.mean())
    assert log_ratio.abs().max() < 1e-6
    module.reduction = "sum"
    torch.testing.assert_close(module._loss(batch, 0.2)[2], 3 * total)


def test_tokens_of_agents_that_left_do_not_count():
    module = coordinator(entropy_coef=0.1)
    batch = decisions(module)
    weight = torch.ones_like(batch.weight)
    weight[::2, 2] = 0
    other = batch.advantage.clone()
    other[::2, 2] = 9.0
    grads = []
    for advantage in (batch.advantage, other):
        loss = module._loss(batch._replace(weight=weight, advantage=advantage), 0.2)[2]
        grads.append(torch.autograd.grad(loss, list(module.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
