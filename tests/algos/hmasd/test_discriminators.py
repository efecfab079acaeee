"""The discriminators: what they read, and that they learn to read it."""

from __future__ import annotations

import math

import torch

from lit_rl.algos.hmasd.individual_discriminator import IndividualDiscriminator
from lit_rl.algos.hmasd.team_discriminator import TeamDiscriminator
from lit_rl.flat import FlatAdam


def test_team_discriminator_learns_what_the_state_tells():
    torch.manual_seed(0)
    module = TeamDiscriminator(3, hidden=(16,))
    module.build(4)
    optimizer = FlatAdam(module, 0.01, 1e-5, 10.0)
    state, skill = torch.randn(20, 8, 4), torch.randint(3, (20, 8))
    state[..., :3] += 4 * torch.nn.functional.one_hot(skill, 3)
    first = module.learn(state, skill, None, optimizer)
    assert first < 1.2 * math.log(3)
    losses = [module.learn(state, skill, None, optimizer) for _ in range(20)]
    assert losses[-1] < 0.1
    assert module(state, skill).shape == (20, 8)
    assert module(state, skill).mean() > -0.1


def test_team_discriminator_guesses_at_first():
    module = TeamDiscriminator(3)
    module.build(4)
    log_q = module(torch.randn(50, 4), torch.randint(3, (50,)))
    torch.testing.assert_close(log_q, torch.full((50,), -math.log(3)), atol=0.2, rtol=0)


def test_individual_discriminator_is_given_the_teams_skill():
    """z = (bit + Z) mod 2: neither the observation nor Z tells it alone."""
    torch.manual_seed(0)
    module = IndividualDiscriminator(2, 2, hidden=(16,))
    module.build(3)
    optimizer = FlatAdam(module, 0.01, 1e-5, 10.0)
    obs, team = torch.randn(30, 8, 2, 3), torch.randint(2, (30, 8))
    bits = torch.randint(2, (30, 8, 2))
    obs[..., 0] = bits * 2.0 - 1
    skills = (bits + team.unsqueeze(-1)) % 2
    losses = [module.learn(obs, team, skills, None, optimizer) for _ in range(40)]
    assert losses[-1] < 0.1
    assert module(obs, team, skills).shape == (30, 8, 2)
    assert module(obs, 1 - team, skills).mean() < -1


def test_steps_without_a_transition_do_not_count():
    torch.manual_seed(0)
    valid = torch.ones(40, dtype=torch.bool)
    valid[::3] = False
    state, skill = torch.randn(40, 4), torch.randint(3, (40,))
    learned = []
    for wrong in (skill, torch.where(valid, skill, (skill + 1) % 3)):
        torch.manual_seed(1)
        module = TeamDiscriminator(3, hidden=(8,))
        module.build(4)
        optimizer = FlatAdam(module, 5e-4, 1e-5, 10.0)
        module.learn(state, wrong, valid, optimizer)
        learned.append(optimizer.flat.tensor.detach().clone())
    assert torch.equal(*learned)
