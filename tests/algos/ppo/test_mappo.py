"""MAPPO and IPPO: one policy for all agents, a critic of the global state, agents that leave."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_rl import PPO, RolloutDataModule
from lit_rl.algos.module import RLModule
from lit_rl.algos.multi_agent import AgentIds
from lit_rl.algos.ppo.samples import normalize_advantages
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.alice_bob import AliceAndBob
from lit_rl.nested import map_nested
from lit_rl.ranks import Ranks
from lit_rl.types import Decision, Nested, Rollout
from tests.team_toys import Roles, Team
from tests.test_resume import BATCHES_PER_EPOCH, EPOCHS, Run, assert_identical, env_steps_of, learned, load
from tests.toys import MatchingPair, WatchedPPO, fit, samples_of

MAPPO: dict[str, Any] = {"central_critic": True, "value_norm": True, "huber_delta": 10.0}


class Recording(PPO):
    """Records the log-probability of each action when it is chosen."""

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        decision = super().act(obs, carry, reset, greedy=greedy)
        seen = self.policy.views(obs)
        own = seen["actor"] if self.central_critic else seen
        features = self.policy.network.actor_encoder(own)
        if self.gru is not None:
            assert self.policy.network.actor_core is not None
            hidden = decision.extras["hidden_actor"]
            features = self.policy.network.actor_core.cell(
                features.flatten(0, 1), hidden.flatten(0, 1)
            ).view_as(hidden)
        policy = torch.distributions.Categorical(logits=self.policy.network.actor(features))
        return decision._replace(extras=decision.extras | {"log_prob": policy.log_prob(decision.action)})


def collected(env: Any, steps: int = 12, **arguments: Any) -> tuple[Recording, Rollout]:
    """The second rollout of a policy with large random weights."""
    module = Recording(hidden=(8,), spec=env.spec, chunk_length=4, batch_size=8, gamma=0.9, **arguments)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    collector = InlineCollector(env, 0)
    collector.collect(module, steps, 0)
    return module, collector.collect(module, steps, 0)


# Learning


@pytest.mark.parametrize(
    ("env", "arguments"),
    [
        (MatchingPair, {"value_norm": True, "huber_delta": 10.0, "agent_ids": True}),
        (Team, MAPPO),
        (partial(Team, team=True), {**MAPPO, "agent_ids": True, "normalize_observation": True}),
        (partial(Team, team=True), {**MAPPO, "agent_ids": "actor"}),
        (Team, {**MAPPO, "gru": 8, "chunk_length": 4}),
    ],
    ids=["ippo", "mappo", "numbered", "numbered actor", "memory"],
)
def test_agents_learn_to_match(env: Any, arguments: dict[str, Any]):
    """Each sees both bits and must say the other's: 4 per episode of 4 steps, 2 by chance."""
    torch.manual_seed(0)
    module = PPO(hidden=(16,), batch_size=128, update_epochs=4, learning_rate=0.01, gamma=0.5, **arguments)
    logger = fit(module, RolloutDataModule(env, 16, 16, rollouts_per_epoch=15, seed=0))
    assert module.env_steps == 15 * 16 * 16
    assert logger.column("episode/return_mean")[0] < 2.6
    returns = evaluate(module, env(32), seed=9)["episode_return"]
    assert returns[::4].mean() > 3.9  # of those that start at their first step


@pytest.mark.parametrize("agent_ids", [False, True])
def test_only_numbers_tell_agents_apart_that_see_the_same(agent_ids: bool):
    module = PPO(hidden=(16,), batch_size=64, update_epochs=4, learning_rate=0.01, agent_ids=agent_ids)
    fit(module, RolloutDataModule(Roles, 16, 8, rollouts_per_epoch=15))
    assert evaluate(module, Roles(2), seed=0)["episode_return"].tolist() == [1.0 if agent_ids else 0.5] * 2


@pytest.mark.parametrize("gru", [None, 6])
@pytest.mark.parametrize("agent_ids", [False, True, "actor"])
def test_every_update_starts_at_ratio_one(gru: int | None, agent_ids: AgentIds):
    module = WatchedPPO(hidden=(8,), gru=gru, chunk_length=4, batch_size=32, update_epochs=2, clip_value=0.2,
                        normalize_observation=True, agent_ids=agent_ids, **MAPPO)  # fmt: skip
    env = partial(Team, length=5, leaves_after=2)
    fit(module, RolloutDataModule(env, 4, 8, rollouts_per_epoch=3))
    first = torch.stack(module.log_ratios[::4])
    assert first.abs().max() < 1e-5
    assert torch.stack(module.log_ratios[3::4]).abs().max() > 1e-5
    assert min(module.moved) > 0


@torch.no_grad()
@pytest.mark.parametrize("agent_ids", [False, True])
@pytest.mark.parametrize("gru", [None, 6])
@pytest.mark.parametrize("central_critic", [False, True])
def test_replayed_log_probabilities_are_the_collected_ones(
    agent_ids: bool, gru: int | None, central_critic: bool
):
    env = Team(3, length=5)
    module, rollout = collected(env, agent_ids=agent_ids, gru=gru, central_critic=central_critic)
    collected_log_prob = rollout["extras"]["log_prob"]  # (12, 3, 2)
    samples, _ = samples_of(module, rollout)
    log_prob, _, value = module.policy.network(samples)
    if gru is None:
        expected = collected_log_prob.flatten(0, 1)
    else:
        assert samples["log_prob"].shape == (9, 4, 2)  # chunks of 12 * 3 steps
        expected = collected_log_prob.unflatten(0, (3, 4)).transpose(1, 2).flatten(0, 1)
    for replayed in (samples["log_prob"], log_prob):
        assert (replayed - expected).abs().max() < 1e-6
    torch.testing.assert_close(value, samples["return"] - samples["advantage"])


# Values


def slow_values(module: PPO, states: Tensor) -> Tensor:
    """One state at a time, for each agent: ``(..., S)`` to ``(..., 2)``."""
    values = []
    for state in states.reshape(-1, 3):
        for a in range(2):
            number = torch.eye(2)[a] if module.agent_ids is True else torch.zeros(0)
            values.append(module.policy.network.critic(torch.cat([state, number])))
    return torch.stack(values).view(*states.shape[:-1], 2)


@torch.no_grad()
@pytest.mark.parametrize("team", [False, True])
@pytest.mark.parametrize("agent_ids", [False, True, "actor"])
@pytest.mark.parametrize("leaves_after", [None, 2])
def test_advantages_of_a_central_critic_against_a_slow_twin(
    team: bool, agent_ids: AgentIds, leaves_after: int | None
):
    env = Team(3, team=team, length=5, leaves_after=leaves_after)
    module, rollout = collected(env, agent_ids=agent_ids, central_critic=True, gae_lambda=0.8)
    value = slow_values(module, rollout["obs"]["state"])
    final = dict(
        zip(rollout["final_index"].tolist(), slow_values(module, rollout["final_obs"]["state"]), strict=True)
    )
    assert len(final) == 8
    advantage = torch.zeros(12, 3, 2)
    for n in range(3):
        for a in range(2):
            following = 0.0
            for t in reversed(range(12)):
                ended, next_value = bool(rollout["truncated"][t, n]), value[t + 1, n, a].item()
                next_value = final[t * 3 + n][a].item() if ended else next_value
                if leaves_after and not team and a and not ended and not rollout["obs"]["alive"][t + 1, n, 1]:
                    ended, next_value = True, 0.0
                reward = rollout["reward"][t, n] if team else rollout["reward"][t, n, a]
                delta = reward.item() + 0.9 * next_value - value[t, n, a].item()
                following = delta + 0.9 * 0.8 * (0.0 if ended else following)
                advantage[t, n, a] = following
    samples, _ = samples_of(module, rollout)
    alive = rollout["obs"]["alive"][:-1] > 0 if leaves_after else torch.ones(12, 3, 2, dtype=torch.bool)
    assert alive.all() == (leaves_after is None)
    torch.testing.assert_close(samples["advantage"].view(12, 3, 2)[alive], advantage[alive])
    torch.testing.assert_close(samples["return"].view(12, 3, 2)[alive], (advantage + value[:-1])[alive])
    if team and agent_ids is not True:
        assert torch.equal(samples["advantage"][..., 0], samples["advantage"][..., 1])


@torch.no_grad()
def test_values_are_denormalised_with_the_statistics_they_were_learned_with():
    env = Team(4)
    module, rollout = collected(env, central_critic=True, value_norm=True, clip_value=0.2)
    plain, _ = collected(env, central_critic=True)
    plain.policy.network.load_state_dict(module.policy.network.state_dict())
    assert module.policy.value_norm is not None
    module.policy.value_norm.update(torch.tensor([2.0, 8.0]))  # mean 5, deviation 3
    last = plain.policy.network.critic[-1]
    last.weight *= 3  # a critic that predicts 3 * output + 5
    last.bias.mul_(3).add_(5)
    expected, _ = samples_of(plain, rollout)
    samples, _ = samples_of(module, rollout)
    torch.testing.assert_close(samples["advantage"], expected["advantage"])
    torch.testing.assert_close(samples["value"] * 3 + 5, expected["return"] - expected["advantage"])
    norm = module.policy.value_norm  # with the new returns in it
    assert abs(norm.mean - 5) > 0.1
    torch.testing.assert_close(norm.denormalize(samples["return"]), expected["return"])


@torch.no_grad()
def test_a_state_has_statistics_of_its_own():
    env = Team(4, leaves_after=2)
    module, rollout = collected(env, central_critic=True, normalize_observation=True)
    module.policy.observe(rollout, Ranks())
    assert module.policy.observation_norm is not None
    norms: Any = module.policy.observation_norm.norms
    assert set(norms) == {"leaf:actor", "leaf:critic"}
    alive = rollout["obs"]["alive"][:-1] > 0
    own, state = rollout["obs"]["observation"][:-1][alive].double(), rollout["obs"]["state"][:-1].double()
    torch.testing.assert_close(norms["leaf:actor"].mean, own.mean(0))
    torch.testing.assert_close(norms["leaf:critic"].mean, state.mean((0, 1)))
    assert (norms["leaf:actor"].count, norms["leaf:critic"].count) == (len(own), 48)


# Agents that left


def gradient(module: PPO, rollout: Rollout) -> tuple[Tensor, dict[str, Any], dict[str, Any]]:
    """The gradient of a whole rollout, what is logged, and the statistics after it."""
    before = map_nested(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, module.state_dict())
    with torch.no_grad():
        samples, logged = samples_of(module, rollout)
        module.policy.observe(rollout, Ranks())
    (samples,) = normalize_advantages([samples], lambda total: total)
    loss, _ = module.policy.loss(None, samples, 0.2)
    grads = torch.autograd.grad(loss, list(module.policy.network.parameters()))
    after = {name: leaf.clone() for name, leaf in module.state_dict().items() if isinstance(leaf, Tensor)}
    module.load_state_dict(before)
    return torch.cat([grad.flatten() for grad in grads]), logged, after


@pytest.mark.parametrize("team", [False, True])
@pytest.mark.parametrize("gru", [None, 6])
@pytest.mark.parametrize(
    "arguments",
    [{}, MAPPO, {**MAPPO, "agent_ids": True, "clip_value": 0.2, "normalize_observation": True}],
    ids=["ippo", "mappo", "everything"],
)
def test_nothing_is_learned_from_agents_that_left(team: bool, gru: int | None, arguments: dict[str, Any]):
    """Whatever they see and do, the gradient is the same to the bit."""
    env = Team(3, team=team, length=4, leaves_after=2)
    module, rollout = collected(env, gru=gru, entropy_coef=0.1, **arguments)
    gone = rollout["obs"]["alive"] == 0
    assert 0 < gone.sum() < gone.numel() / 2
    other: Any = dict(rollout)
    observation = rollout["obs"]["observation"].clone()
    observation[gone] = torch.randn(int(gone.sum()), 3)
    other["obs"] = rollout["obs"] | {"observation": observation}
    other["action"] = torch.where(gone[:-1], 1 - rollout["action"], rollout["action"])
    if not team:
        other["reward"] = rollout["reward"] + 7.0 * gone[:-1]
    (grad, logged, after), (other_grad, other_logged, other_after) = map(
        partial(gradient, module), (rollout, other)
    )
    assert grad.abs().max() > 0
    assert torch.equal(grad, other_grad)
    assert logged.keys() == other_logged.keys()
    assert all(torch.equal(logged[name], other_logged[name]) for name in logged)
    assert_identical(after, other_after)


def test_the_loss_is_that_of_the_others_alone():
    env = Team(3, length=4, leaves_after=2)
    module, rollout = collected(env, entropy_coef=0.1, huber_delta=0.5)
    samples, _ = samples_of(module, rollout)
    alive = samples["weight"] > 0
    loss, _ = module.policy.loss(None, samples, 0.2)
    kept = {name: samples[name][alive] for name in ("obs", "action", "log_prob", "advantage", "return")}
    torch.testing.assert_close(loss, module.policy.loss(None, kept, 0.2)[0])


# Batches, resuming


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 33}, "batch_size = 33 must be a multiple of 2: the agents of an environment"),
        ({"batch_size": 12, "gru": 4, "chunk_length": 4}, "batch_size = 12 must be a multiple of 8"),
        ({"batch_size": 48}, "batch_size = 48 must divide 64, the transitions of a rollout"),
    ],
)
def test_agents_of_an_environment_stay_together(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        fit(PPO(hidden=(4,), **arguments), RolloutDataModule(Team, 4, 8, rollouts_per_epoch=1))


def alice_and_bob(batches: int) -> tuple[RLModule, LightningDataModule]:
    arguments = {"gru": 4, "chunk_length": 8, "agent_ids": True, "normalize_observation": True, **MAPPO}
    module = PPO(hidden=(8,), batch_size=32, update_epochs=2, clip_value=0.2, **arguments)
    return module, RolloutDataModule(AliceAndBob, 4, 16, batches, eval_episodes=2)


@pytest.fixture(autouse=True)
def keep_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``seed_everything`` writes an environment variable, which must not outlive a test."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


def test_resume_is_exact(tmp_path: Path):
    whole = Run(tmp_path / "whole", alice_and_bob)
    *earlier, last = whole.step_checkpoints()
    assert len(earlier) == BATCHES_PER_EPOCH * EPOCHS - 1
    state = load(last)["state_dict"]
    assert state["policy.value_norm.averages"][2] > 0
    for path in (earlier[0], earlier[-1]):
        resumed = Run(tmp_path / path.stem, alice_and_bob, seed=99, resume=path)
        assert resumed.rows == [row for row in whole.rows if (row[0] or 0) > env_steps_of(path)]
        assert_identical(learned(load(resumed.checkpoints / last.name)), learned(load(last)), path.name)
