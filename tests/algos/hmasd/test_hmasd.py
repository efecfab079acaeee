"""HMASD as a whole: clocks, replay, rewards, MAPPO as its special case, agents that left, resuming."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_rl import HMASD, PPO, RolloutDataModule, metrics
from lit_rl.algos.hmasd.decisions import Seen, as_in_the_paper, blocks_of, with_skills
from lit_rl.algos.hmasd.skill_discoverer import audit_discoverer
from lit_rl.algos.module import RLModule
from lit_rl.algos.ppo.policy import ProximalPolicy
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.envs.alice_bob import AliceAndBob
from lit_rl.flat import FlatAdam
from lit_rl.nested import map_nested
from lit_rl.ranks import Ranks
from lit_rl.types import Rollout
from tests.team_toys import Team
from tests.test_resume import BATCHES_PER_EPOCH, EPOCHS, Run, assert_identical, env_steps_of, learned, load
from tests.toys import fit, samples_of

SMALL: dict[str, Any] = {"hidden": (8,), "embedding": 8, "gru": 4, "chunk_length": 4, "k": 4}


def make(env: Any, **arguments: Any) -> HMASD:
    """With large random weights."""
    torch.manual_seed(0)
    module = HMASD(**{**SMALL, **arguments}, spec=env.spec)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.5)
    return module


def collected(env: Any, steps: int = 16, **arguments: Any) -> tuple[HMASD, Rollout]:
    """The second rollout, of another version than the first."""
    module = make(env, **arguments)
    collector = InlineCollector(env, 0)
    collector.collect(module, steps, 0)
    module.policy_version = 1
    return module, collector.collect(module, steps, 1)


# Clocks


def test_clocks_start_with_episodes_and_run_for_k_steps():
    """Episodes of 6 steps, k = 4: decided at steps 0 and 4 of each, and skills are held in between."""
    _, rollout = collected(Team(5, length=6), steps=24)
    start, reset = rollout["extras"]["skill_start"], rollout["reset"]
    for n in range(5):
        clock = 0
        for t in range(24):
            clock = 0 if reset[t, n] else clock + 1
            if t >= 6:
                assert start[t, n] == (clock in (0, 4))
    for name in ("team_skill", "agent_skills", "skill_log_prob"):
        skill = rollout["extras"][name]
        held = ~start[1:]
        assert torch.equal(skill[1:][held], skill[:-1][held])
    assert rollout["extras"]["agent_skills"].unique().tolist() == [0, 1, 2]


def test_skills_of_an_older_policy_are_decided_anew():
    env = Team(4, length=50)
    module = make(env)
    collector = InlineCollector(env, 0)
    first = collector.collect(module, 6, 0)
    assert first["extras"]["skill_start"].any(1).tolist() == [True, False, False, False, True, False]
    same = collector.collect(module, 4, 0)
    assert same["extras"]["skill_start"].any(1).tolist() == [False, False, True, False]
    module.policy_version += 1
    updated = collector.collect(module, 6, 1)
    assert updated["extras"]["skill_start"].all(1).tolist() == [True, False, False, False, True, False]


def test_evaluation_has_the_same_clock():
    env = Team(3, length=6)
    module = make(env)
    starts: list[Tensor] = []
    act = module.act
    module.act = lambda *a, **k: starts.append(act(*a, **k)) or starts[-1]  # type: ignore[method-assign, return-value, func-returns-value]
    evaluate(module, env, seed=0)
    pattern = [decision.extras["skill_start"].all().item() for decision in starts]  # type: ignore[attr-defined]
    assert pattern[:6] == [True, False, False, False, True, False]


# Replay


@pytest.mark.parametrize("gru", [None, 4])
@pytest.mark.parametrize("skill_last_layer", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2), (1, 4), (2, 1)])
@pytest.mark.parametrize("agent_ids", [False, True])
def test_both_levels_replay(gru: int | None, skill_last_layer: bool, sizes: tuple[int, int], agent_ids: bool):
    module, rollout = collected(
        Team(4, length=6), gru=gru, skill_last_layer=skill_last_layer, n_Z=sizes[0], n_z=sizes[1],
        skill_sync="truncate", agent_ids=agent_ids,
    )  # fmt: skip
    assert module.discoverer.views.shared_value  # V_l(s, Z), whatever the actor sees
    values = audited(module, rollout)
    assert values[metrics.REPLAY_ERROR] < 1e-6
    assert values[metrics.REPLAY_ERROR_HIGH] < 1e-6
    assert rollout["extras"]["log_prob"].std() > 0.01


@torch.no_grad()
def audited(module: HMASD, rollout: Rollout) -> dict[str, Any]:
    """What both audits say."""
    seen = Seen(
        *module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]), rollout["final_index"]
    )
    rewards, _ = module._rewards(rollout, *seen.following())
    _, values = module._decisions(rollout, seen)
    shown = with_skills(rollout, rewards, rollout["carry"]["low"])
    replayed = module.discoverer.replay(shown)
    return values | audit_discoverer(module.discoverer, shown, replayed, module.replay_tolerance)


@pytest.mark.parametrize(("key", "level"), [("log_prob", "discoverer"), ("skill_log_prob", "coordinator")])
def test_a_rollout_of_another_policy_is_refused(key: str, level: str):
    module, rollout = collected(Team(4))
    rollout["extras"][key] += 0.01
    with pytest.raises(RuntimeError, match=rf"log-probabilities of the skill {level} differ .* by 0\.0"):
        audited(module, rollout)


def test_a_batch_of_another_version_is_refused():
    module, rollout = collected(Team(4))
    module.policy_version = 3
    with pytest.raises(RuntimeError, match="on-policy batch expected of policy version 3, got 1"):
        module.training_step(rollout, 0)


# Rewards


@torch.no_grad()
@pytest.mark.parametrize("team", [False, True])
@pytest.mark.parametrize("baseline", [False, True])
def test_rewards_against_a_slow_twin(team: bool, baseline: bool):
    """Eq. 4, one step of one agent after the other, from what truly followed."""
    env = Team(3, team=team, length=5)
    weights = {"lambda_e": 2.0, "lambda_D": 0.3, "lambda_d": 0.7}
    module, rollout = collected(env, n_Z=3, n_z=2, skill_baseline=baseline, **weights)
    seen = Seen(
        *module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]), rollout["final_index"]
    )
    rewards, values = module._rewards(rollout, *seen.following())
    final = {int(index): k for k, index in enumerate(rollout["final_index"])}
    extras, expected = rollout["extras"], torch.zeros(16, 3, 2)
    for t in range(16):
        for n in range(3):
            ended = final.get(t * 3 + n)
            after = {
                key: leaf[t + 1, n] if ended is None else rollout["final_obs"][key][ended]
                for key, leaf in rollout["obs"].items()
            }
            Z = int(extras["team_skill"][t, n])
            log_D = module.team_discriminator.network(after["state"]).log_softmax(-1)[Z]
            for a in range(2):
                given = torch.cat([after["observation"][a], torch.eye(3)[Z]])
                log_d = module.individual_discriminator.network(given).log_softmax(-1)
                log_d = log_d[extras["agent_skills"][t, n, a]]
                reward = rollout["reward"][t, n] if team else rollout["reward"][t, n, a]
                base = (math.log(3), math.log(2)) if baseline else (0.0, 0.0)
                expected[t, n, a] = 2 * reward + 0.3 * (log_D + base[0]) + 0.7 * (log_d + base[1])
    torch.testing.assert_close(rewards, expected)
    torch.testing.assert_close(values[metrics.REWARD_LOW], expected.mean())
    parts = module.reward_components
    assert parts is not None
    env_reward = rollout["reward"] if team else rollout["reward"].mean(-1)
    assert torch.equal(parts["env"], env_reward)
    torch.testing.assert_close(2 * parts["env"] + parts["team_disc"] + parts["ind_disc"], expected.mean(-1))
    portions = (metrics.REWARD_ENVIRONMENT, metrics.REWARD_TEAM, metrics.REWARD_INDIVIDUAL)
    torch.testing.assert_close(sum(values[name] for name in portions), values[metrics.REWARD_LOW])  # type: ignore[arg-type]


def test_all_decisions_are_trained_on():
    """4 environments, 16 steps, k = 4 and episodes of 6: 3 decisions per episode's worth of 12 steps."""
    env = Team(4, length=6)
    module = HMASD(**SMALL, n_Z=2, n_z=2, update_epochs=2, discriminator_epochs=1)
    logger = fit(module, RolloutDataModule(env=partial(Team, length=6), num_envs=4, rollout_steps=16,
                                           rollouts_per_epoch=3))  # fmt: skip
    numbers = logger.column(metrics.BUFFER_HIGH)
    assert logger.column(metrics.BUFFER_HIGH_TOTAL) == list(np.cumsum(numbers))
    assert all(4 * 4 <= number <= 4 * 7 for number in numbers)
    assert logger.column(metrics.BUFFER_LOW) == [4 * 16 * 2] * 3
    assert module.num_decisions == sum(numbers)
    del env


# As the authors' code


def test_paper_compat_is_what_the_authors_code_does():
    """Clocks of the rollout, two episodes in one block, the next one's observation, no value at limits."""
    env = Team(3, team=True, length=6)
    module, rollout = collected(env, paper_compat=True)
    assert rollout["extras"]["skill_start"].all(1).nonzero().flatten().tolist() == [0, 4, 8, 12]
    assert rollout["extras"]["skill_start"].any(1).sum() == 4
    ends = rollout["truncated"]
    changed = as_in_the_paper(rollout)
    assert torch.equal(changed["terminated"], ends)
    assert not changed["truncated"].any()
    blocks = blocks_of(changed, paper_compat=True)
    torch.testing.assert_close(blocks.reward, rollout["reward"].view(4, 4, 3).sum(1))
    assert torch.equal(blocks.done, ends[3::4])
    assert ends.sum() > blocks.done.sum()
    seen = Seen(
        *module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]), rollout["final_index"]
    )
    assert torch.equal(seen.following(paper_compat=True)[0], rollout["obs"]["state"][1:])
    assert not torch.equal(seen.following()[0], rollout["obs"]["state"][1:])


def test_paper_compat_trains():
    module = HMASD(**SMALL, paper_compat=True, update_epochs=1, discriminator_epochs=1)
    logger = fit(module, RolloutDataModule(partial(Team, length=6), 4, 16, 2))
    assert logger.column(metrics.BUFFER_HIGH) == [16.0, 16.0]


# MAPPO


def learn(policy: ProximalPolicy, rollout: Rollout, optimizer: FlatAdam) -> dict[str, Tensor | float]:
    """One update with the whole rollout in one minibatch; what it logs."""
    samples, estimated = samples_of(policy, rollout)
    size = samples["log_prob"].numel()
    _, optimized = policy.optimize(samples, rollout["valid"], optimizer, Ranks(), size)
    return estimated | optimized


@pytest.mark.parametrize("agent_ids", [False, True])
def test_one_skill_without_discrimination_is_mappo(agent_ids: bool):
    """Two updates of the same rollouts give the same losses and the same weights."""
    arguments: dict[str, Any] = {"gru": 4, "chunk_length": 4, "activation": "relu", "learning_rate": 0.01,
                                 "update_epochs": 3, "clip_value": 0.2, "huber_delta": 10.0,
                                 "value_coef": 1.0,
                                 "value_norm": True, "max_grad_norm": 10.0}  # fmt: skip
    env = Team(4, length=6)
    module = make(env, n_Z=1, n_z=1, lambda_D=0.0, lambda_d=0.0, lambda_l=0.05, agent_ids=agent_ids,
                  **arguments)  # fmt: skip
    encoder = partial(PerceptronEncoder, hidden=(8,), activation="relu", layer_norm=True)
    mappo = PPO(hidden=(), encoder=encoder, critic_encoder=encoder, central_critic=True, entropy_coef=0.05,
                batch_size=16 * 4 * 2, agent_ids="actor" if agent_ids else False, spec=env.spec,
                **arguments)  # fmt: skip
    mappo.configure_model()
    mappo.policy.network.load_state_dict(module.discoverer.network.state_dict())
    optimizers = [FlatAdam(policy.network, 0.01, 1e-5, 10.0) for policy in (module.discoverer, mappo.policy)]
    collector = InlineCollector(env, 0)
    for version in range(2):
        module.policy_version = version
        rollout = collector.collect(module, 16, version)
        with torch.no_grad():
            seen = Seen(*module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]),
                        rollout["final_index"])  # fmt: skip
            rewards, _ = module._rewards(rollout, *seen.following())
        plain: Any = rollout | {"carry": rollout["carry"]["low"]}
        plain["extras"] = {name: rollout["extras"][name] for name in ("hidden_actor", "hidden_critic")}
        shown = with_skills(rollout, rewards, rollout["carry"]["low"])
        learned_by = [
            learn(policy, given, optimizer)
            for policy, given, optimizer in zip(
                (module.discoverer, mappo.policy), (shown, plain), optimizers, strict=True
            )
        ]
        for name in (
            metrics.LOSS_POLICY,
            metrics.LOSS_VALUE,
            metrics.LOSS_TOTAL,
            metrics.ENTROPY,
            metrics.KL,
        ):
            torch.testing.assert_close(learned_by[0][name], learned_by[1][name], atol=1e-5, rtol=0)
    torch.testing.assert_close(optimizers[0].flat.tensor, optimizers[1].flat.tensor, atol=1e-5, rtol=0)


def test_values_after_the_rollout_are_those_of_the_continuing_skill():
    _, rollout = collected(Team(3, length=50), steps=8)
    given = with_skills(rollout, torch.zeros(8, 3, 2), rollout["carry"]["low"])
    assert torch.equal(given["obs"]["team_skill"][-1], rollout["extras"]["team_skill"][-1])
    assert given["obs"]["agent_skills"].shape == (9, 3, 2)
    assert given["final_obs"]["team_skill"].shape == (0,)


# Learning


def test_learns_to_match():
    """Each agent sees both bits and must say the other's: 4 per episode of 4 steps, 2 by chance."""
    torch.manual_seed(0)
    module = HMASD(2, 2, k=4, lambda_D=0.01, lambda_d=0.01, hidden=(16,), embedding=16, gru=None, gamma=0.5,
                   learning_rate=0.01, update_epochs=4, minibatches=4)  # fmt: skip
    logger = fit(module, RolloutDataModule(Team, 16, 16, rollouts_per_epoch=15, seed=0))
    assert logger.column("episode/return_mean")[0] < 2.6
    returns = evaluate(module, Team(32), seed=9)["episode_return"]
    assert returns[::4].mean() > 3.9


@pytest.mark.slow
def test_discriminators_recognise_skills_that_agents_show():
    """Alone on lambda_d agents learn to act so that their skill is seen."""
    torch.manual_seed(0)
    module = HMASD(2, 2, k=8, lambda_e=0.0, lambda_D=0.1, lambda_d=1.0, hidden=(16,), embedding=16, gru=8,
                   learning_rate=0.003, update_epochs=8, lambda_h=0.1)  # fmt: skip
    logger = fit(module, RolloutDataModule(AliceAndBob, 16, 32, rollouts_per_epoch=60, seed=0))
    information = logger.column(metrics.INFORMATION_AGENTS)
    assert abs(information[0]) < 0.05
    assert information[-1] > 0.3


# Agents that left


def test_nothing_is_learned_from_agents_that_left():
    """Whatever they do, see and are told, all networks learn the same to the bit."""
    env = Team(3, length=4, leaves_after=2)
    finals = []
    for change in (False, True):
        module, rollout = collected(env, replay_tolerance=None)
        gone = rollout["obs"]["alive"] == 0
        if change:
            rollout["action"] = torch.where(gone[:-1], 1 - rollout["action"], rollout["action"])
            rollout["reward"] = rollout["reward"].clone()
        networks = module.discoverer.network, module.coordinator
        optimizers = [FlatAdam(network, 5e-4, 1e-5, 10.0) for network in networks]
        with torch.no_grad():
            seen = Seen(*module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]),
                        rollout["final_index"])  # fmt: skip
            rewards, _ = module._rewards(rollout, *seen.following())
            decisions, _ = module._decisions(rollout, seen)
        if change:
            rewards = rewards + 5.0 * gone[:-1]
        shown = with_skills(rollout, rewards, rollout["carry"]["low"])
        learn(module.discoverer, shown, optimizers[0])
        module.coordinator.learn(decisions, optimizers[1], Ranks())
        assert (decisions.weight == 0).any()
        assert len(decisions.weight) == blocks_of(rollout).length.gt(0).sum()
        finals.append([optimizer.flat.tensor.detach().clone() for optimizer in optimizers])
    assert all(torch.equal(a, b) for a, b in zip(*finals, strict=True))


# Resuming


def alice_and_bob(batches: int) -> tuple[RLModule, LightningDataModule]:
    module = HMASD(2, 3, **{**SMALL, "k": 8}, update_epochs=2, discriminator_epochs=2, anneal_env_steps=1000)
    return module, RolloutDataModule(AliceAndBob, 4, 16, batches, eval_episodes=2)


@pytest.fixture
def keep_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """``seed_everything`` writes an environment variable, which must not outlive a test."""
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        monkeypatch.setenv(name, "0")


def test_resume_is_exact_at_every_sync(tmp_path: Path, keep_seed: None):
    whole = Run(tmp_path / "whole", alice_and_bob)
    *earlier, last = whole.step_checkpoints()
    assert len(earlier) == BATCHES_PER_EPOCH * EPOCHS - 1
    state = load(last)["state_dict"]
    assert state["high_value_norm.averages"][2] > 0
    assert state["discoverer.value_norm.averages"][2] > 0
    for path in earlier:
        resumed = Run(tmp_path / path.stem, alice_and_bob, seed=99, resume=path)
        assert resumed.rows == [row for row in whole.rows if (row[0] or 0) > env_steps_of(path)]
        assert_identical(learned(load(resumed.checkpoints / last.name)), learned(load(last)), path.name)


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_Z": 0}, "HMASD: n_Z = 0, expected 1 <= n_Z"),
        ({"n_z": -1}, "HMASD: n_z = -1, expected 1 <= n_z"),
        ({"k": 0}, "HMASD: k = 0, expected k >= 1"),
        ({"lambda_d": -0.1}, "HMASD: lambda_d = -0.1, expected lambda_d >= 0"),
        (
            {"embedding": 12, "heads": 5},
            "heads = 5 does not divide embedding = 12; values that fit: 1, 2, 3, 4",
        ),
        ({"clip": 1.5}, "HMASD: clip = 1.5, expected 0 < clip <= 1"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        HMASD(**arguments)


def test_k_must_divide_the_rollout():
    message = r"HMASD: k = 5 does not divide the 16 steps of a rollout; values that fit: 1, 2, 4, 8, 16, or"
    with pytest.raises(ValueError, match=message):
        fit(HMASD(**{**SMALL, "k": 5}), RolloutDataModule(Team, 4, 16, 1))
    module = HMASD(**{**SMALL, "k": 5}, skill_sync="truncate", update_epochs=1)
    logger = fit(module, RolloutDataModule(Team, 4, 16, 1))
    assert logger.column(metrics.BUFFER_HIGH)


@pytest.mark.parametrize(("minibatches", "rows"), [(1, 4 * 16 * 2), (2, 4 * 8 * 2)])
def test_threads_are_chosen_by_the_rows_of_a_minibatch(monkeypatch, minibatches: int, rows: int):
    asked = []

    def choose(width: int, rows: int, *others: Any) -> tuple[int, str]:
        asked.append(rows)
        return 1, "asked"

    monkeypatch.setattr("lit_rl.compute.choose_threads", choose)
    fit(HMASD(**SMALL, minibatches=minibatches, update_epochs=1), RolloutDataModule(Team, 4, 16, 1))
    assert asked == [rows]


def test_environments_without_agents_or_state_are_refused():
    with pytest.raises(ValueError, match="HMASD needs an environment of several agents, CartPole-v1 has no"):
        fit(HMASD(**SMALL), RolloutDataModule("CartPole-v1", 4, 16, 1))
    from tests.team_toys import Roles

    with pytest.raises(ValueError, match="HMASD needs an environment with a global state, Roles has none"):
        fit(HMASD(**SMALL), RolloutDataModule(Roles, 4, 16, 1))


def test_float64_trains():
    module = HMASD(**SMALL, update_epochs=1, discriminator_epochs=1)
    fit(module, RolloutDataModule(Team, 4, 16, 1), precision="64-true")
    assert map_nested(lambda p: p.dtype, dict(module.named_parameters()))[
        "coordinator.norm_encoder.weight"
    ] == (torch.float64)
