"""The policy protocol: what is carried from step to step restarts with episodes and survives rollouts."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl import PPO, RolloutDataModule
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested
from lit_rl.types import Decision, Nested, Policy, Rollout
from tests.toys import Episodes57, MatchingPair, Memory, WatchedPPO, fit, samples_of


def recurrent_rollouts(env: Any = Episodes57, **arguments: Any) -> tuple[PPO, list[Rollout]]:
    """Two rollouts in a row, of 20 steps in 3 environments, by a policy with large random weights."""
    envs = make_vector_env(env, 3)
    module = PPO(hidden=(8,), gru=6, chunk_length=5, batch_size=20, spec=envs.spec, **arguments)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        collector = InlineCollector(envs, seed=0)
        return module, [collector.collect(module, 20, 0) for _ in range(2)]


def step_by_step(module: PPO, rollout: Rollout) -> dict[str, Tensor]:
    """The slow twin: the policy asked again at every step, with the values of true last observations."""
    network = module.policy.network
    assert network.actor_core is not None
    assert network.critic_core is not None
    hidden = dict(rollout["carry"])
    found: dict[str, list[Tensor]] = {
        "hidden_actor": [],
        "hidden_critic": [],
        "log_prob": [],
        "value": [],
        "final": [],
    }
    ends = dict(zip(rollout["final_index"].tolist(), rollout["final_obs"], strict=True))
    for t in range(20):
        obs = rollout["obs"][t]
        for name in ("actor", "critic"):
            hidden[name] = torch.where(rollout["reset"][t].unsqueeze(-1), 0.0, hidden[name])
            found[f"hidden_{name}"].append(hidden[name])
        hidden = {
            "actor": network.actor_core.cell(obs, hidden["actor"]),
            "critic": network.critic_core.cell(obs, hidden["critic"]),
        }
        distribution = torch.distributions.Categorical(logits=network.actor(hidden["actor"]))
        found["log_prob"].append(distribution.log_prob(rollout["action"][t]))
        found["value"].append(network.critic(hidden["critic"]).squeeze(-1))
        for n in range(3):
            if t * 3 + n in ends:
                after = network.critic_core.cell(ends[t * 3 + n][None], hidden["critic"][n : n + 1])
                found["final"].append(network.critic(after).view(()))
    found["carry"] = [hidden["actor"]]
    return {name: torch.stack(values) for name, values in found.items()}


@torch.no_grad()
def test_hidden_states_of_acting_are_stored_and_reproduced():
    module, rollouts = recurrent_rollouts()
    for rollout in rollouts:
        twin = step_by_step(module, rollout)
        log_prob, _, value, final_value = module.policy.network.over_rollout_recurrent(
            rollout["obs"], rollout["final_obs"], rollout
        )
        for name in ("hidden_actor", "hidden_critic"):
            torch.testing.assert_close(rollout["extras"][name], twin[name])
        torch.testing.assert_close(log_prob, twin["log_prob"])
        torch.testing.assert_close(value[:-1], twin["value"])
        assert len(final_value) == len(rollout["final_index"]) > 0
        torch.testing.assert_close(final_value, twin["final"])
    # the memory of the first rollout is where the second begins
    torch.testing.assert_close(rollouts[1]["carry"]["actor"], step_by_step(module, rollouts[0])["carry"][0])


@torch.no_grad()
def test_an_episode_starts_without_memory():
    _, rollouts = recurrent_rollouts()
    for rollout in rollouts:
        starts = rollout["reset"][:-1]
        assert starts.any()
        for name in ("hidden_actor", "hidden_critic"):
            assert (rollout["extras"][name][starts] == 0).all()
            assert (rollout["extras"][name][~starts] != 0).any(-1).all()


@torch.no_grad()
def test_chunks_from_stored_states_equal_the_whole_sequence():
    module, rollouts = recurrent_rollouts()
    for rollout in rollouts:
        samples, _ = samples_of(module, rollout)
        assert samples["log_prob"].shape == (12, 5)  # chunks of 20 * 3 steps
        log_prob, _, value = module.policy.network(samples)
        torch.testing.assert_close(log_prob, samples["log_prob"])
        torch.testing.assert_close(value, samples["return"] - samples["advantage"])


@pytest.mark.parametrize("normalize", [False, True])
def test_gru_over_agents_starts_every_update_at_ratio_one(normalize: bool):
    """Chunks, agents and hidden states keep their places when agents are folded into environments."""
    module = WatchedPPO(
        hidden=(8,), gru=6, chunk_length=4, batch_size=64, update_epochs=2, normalize_observation=normalize
    )
    data = RolloutDataModule(partial(MatchingPair, length=5), 4, 8, rollouts_per_epoch=4)
    fit(module, data)
    assert len(module.log_ratios) == 8
    assert torch.stack(module.log_ratios[::2]).abs().max() < 1e-5
    assert torch.stack(module.log_ratios[1::2]).abs().max() > 1e-5


def evaluation_return(module: PPO, env: Any, num_envs: int = 64) -> float:
    envs = make_vector_env(env, num_envs)
    return evaluate(module, envs, seed=12345)["episode_return"].mean().item()


@pytest.mark.parametrize(("gru", "low", "high"), [(16, 0.95, 1.0), (None, 0.0, 0.8)])
def test_only_memory_solves_a_task_of_memory(gru: int | None, low: float, high: float):
    """The cue of step 0 must be repeated at step 3; without memory 0.5 is the best."""
    module = PPO(
        hidden=(16,),
        gru=gru,
        chunk_length=8,
        batch_size=128,
        update_epochs=4,
        learning_rate=0.01,
        entropy_coef=0.01,
    )
    fit(module, RolloutDataModule(Memory, 32, 8, rollouts_per_epoch=40, seed=3))
    assert low <= evaluation_return(module, Memory) <= high


@pytest.mark.parametrize("team", [False, True])
def test_one_policy_shared_by_two_agents_learns(team: bool):
    """Each agent sees both bits and must say the other's: 4 per episode of 4 steps, 2 by chance."""
    module = PPO(hidden=(16,), batch_size=128, update_epochs=4, learning_rate=0.01, gamma=0.5)
    data = RolloutDataModule(MatchingPair, 16, 16, rollouts_per_epoch=15, env_kwargs={"team": team})
    logger = fit(module, data)
    assert module.env_steps == 15 * 16 * 16  # steps of environments, not of agents
    assert logger.column("episode/return_mean")[0] < 2.6
    returns = evaluate(module, MatchingPair(32), seed=9)["episode_return"]
    assert returns[::4].mean() > 3.9  # of those that start at their first step


class SkillPolicy:
    """Draws a skill per agent every ``period`` steps and at an episode's start; its carry keeps the clock."""

    def __init__(self, period: int) -> None:
        self.period = period

    def initial_carry(self, num_envs: int) -> Nested:
        return {
            "skill": torch.zeros(num_envs, 2, dtype=torch.int64),
            "clock": torch.zeros(num_envs, dtype=torch.int64),
        }

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        clock = torch.where(reset, 0, carry["clock"])  # type: ignore[index]
        decides = clock % self.period == 0
        drawn = torch.randint(1, 1000, (len(clock), 2))
        skill = torch.where(decides.unsqueeze(-1), drawn, carry["skill"])  # type: ignore[index]
        extras = {"clock": clock, "decides": decides, "skill": skill}
        return Decision(skill % 2, {"skill": skill, "clock": clock + 1}, extras)


def test_skills_and_their_clocks_are_the_policys_business():
    policy = SkillPolicy(period=3)
    assert isinstance(policy, Policy)
    collector = InlineCollector(MatchingPair(4, length=7), seed=0)
    parts = [collector.collect(policy, steps, 0) for steps in (5, 1, 9, 20)]  # ends of rollouts fall anywhere
    clock, decides, skill = (
        torch.cat([part["extras"][name] for part in parts]) for name in ("clock", "decides", "skill")
    )
    reset = torch.cat([part["reset"][:-1] for part in parts])
    assert skill.shape == (35, 4, 2)
    assert reset.sum() > 4 * 4
    for n in range(4):
        expected = 0
        for t in range(35):
            expected = 0 if reset[t, n] else expected
            assert clock[t, n] == expected
            assert decides[t, n] == (expected % 3 == 0)
            if not decides[t, n]:
                assert (skill[t, n] == skill[t - 1, n]).all()
            expected += 1
    changes = (skill[1:] != skill[:-1]).any(-1)
    assert (changes == decides[1:]).all()
    assert (torch.cat([part["action"] for part in parts]) == skill % 2).all()
    # a rollout says what the policy remembered before its first step
    assert (parts[2]["carry"]["skill"] == parts[1]["extras"]["skill"][-1]).all()


def test_the_carry_continues_from_a_saved_collector():
    """Environments that cannot save start anew, and so do the clocks."""
    policy = SkillPolicy(period=3)
    saved = InlineCollector(MatchingPair(2, length=7), seed=0)
    saved.collect(policy, 5, 0)
    fresh = InlineCollector(MatchingPair(2, length=7), seed=0)
    assert fresh.set_state(saved.get_state()) is False
    rollout = fresh.collect(policy, 2, 0)
    assert rollout["reset"][0].all()
    assert (rollout["extras"]["clock"] == torch.tensor([[0, 0], [1, 1]])).all()
    assert map_nested(lambda leaf: leaf.tolist(), rollout["carry"]) == {
        "skill": [[0, 0]] * 2,
        "clock": [0, 0],
    }
