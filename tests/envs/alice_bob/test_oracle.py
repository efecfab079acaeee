"""The policy that solves Alice and Bob."""

from __future__ import annotations

import pytest
import torch

from lit_rl.collect.evaluate import evaluate
from lit_rl.envs.alice_bob import AliceAndBob, AliceAndBobOracle
from lit_rl.types import Policy
from tests.envs.alice_bob.test_grid import DOWN, STAY, UP, place


@pytest.mark.parametrize("one_hot", [False, True])
def test_the_oracle_always_wins(one_hot: bool) -> None:
    """It needs 15.8 steps on average (design notes)."""
    env = AliceAndBob(2000, one_hot, ["is_success"])
    oracle = AliceAndBobOracle(env.spec)
    assert isinstance(oracle, Policy)
    episodes = evaluate(oracle, env, 0)
    assert episodes["last_values"]["is_success"].tolist() == [1] * 2000
    assert episodes["episode_return"].tolist() == [1] * 2000
    assert 15 < episodes["episode_length"].double().mean() < 16.6


def test_the_oracle_waits_where_it_starts_on_the_pair() -> None:
    env = AliceAndBob(1)
    oracle = AliceAndBobOracle(env.spec)
    place(env, (1, 8), (8, 1))
    obs = {key: torch.from_numpy(leaf) for key, leaf in env.observe(slice(None)).items()}
    decision = oracle.act(obs, oracle.initial_carry(1), torch.tensor([True]))
    assert decision.action.tolist() == [[STAY, STAY]]
    later = oracle.act(obs, decision.carry, torch.tensor([False]))
    assert later.action.tolist() == [[DOWN, UP]]
