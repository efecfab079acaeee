"""The contract of learner and data: no lag, a ratio of exactly 1, exact counters, true ends of episodes."""

from __future__ import annotations

import re
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.collect.inline import InlineCollector
from lit_rl.data.loaders import Batches
from lit_rl.data.replay import transitions
from lit_rl.envs.vector import Autoreset, make_vector_env
from lit_rl.normalize import ObservationNorm, ReturnScale
from lit_rl.ranks import Ranks
from lit_rl.types import Rollout
from tests.toys import ContinuousEpisodes57, Episodes57, WatchedPPO, fit, parameters_of, samples_of

MODES: list[Autoreset] = ["same_step", "next_step", "disabled"]


def cartpole(**kwargs: Any) -> RolloutDataModule:
    defaults: dict[str, Any] = {"num_envs": 4, "rollout_steps": 16, "rollouts_per_epoch": 3, "check": False}
    return RolloutDataModule("CartPole-v1", **(defaults | kwargs))


def test_policy_lag_is_zero_over_epochs():
    module = WatchedPPO(hidden=(8,), batch_size=32)
    fit(module, cartpole(), max_epochs=2)
    assert module.lags == [0] * 6


def test_a_loader_without_length_is_prefetched_and_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(Batches, "__len__")
    module = WatchedPPO(hidden=(8,), batch_size=32)
    message = "expected of policy version 1, got 0: the dataloader was prefetched"
    with pytest.raises(RuntimeError, match=message):
        fit(module, cartpole())
    assert module.lags == [0, 1]


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
@pytest.mark.parametrize(
    ("env", "arguments"),
    [("CartPole-v1", {}), ("Pendulum-v1", {"normalize_observation": True}), ("CartPole-v1", {"gru": 8})],
)
def test_ratio_is_exactly_one_before_the_first_update(env: str, arguments: dict[str, Any], precision: str):
    """A recurrent policy is cut into chunks: the same numbers in another order, so equal up to rounding."""
    module = WatchedPPO(hidden=(16,), batch_size=64, update_epochs=3, learning_rate=0.01, **arguments)
    fit(module, RolloutDataModule(env, 4, 16, rollouts_per_epoch=3, check=False), precision=precision)
    first = torch.stack(module.log_ratios[::3])
    rounding = {"32-true": 1e-5, "64-true": 1e-12, "bf16-mixed": 1e-2}[precision]
    assert first.exp().sub(1).abs().max() <= (rounding if "gru" in arguments else 0)
    later = torch.stack(module.log_ratios[2::3])  # the forward really sees the weights of the last step
    assert (later.flatten(1).abs().amax(1) > 1e-4).all()


def test_acting_and_learning_compute_the_same_log_probability():
    """The batched forward at the head of ``training_step`` is the policy that acted."""
    env = make_vector_env("CartPole-v1", 3)
    module = PPO(hidden=(8,), spec=env.spec)
    module.configure_model()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
        rollout = InlineCollector(env, 0).collect(module, 2000, 0)
        samples, _ = samples_of(module, rollout)
    # E[1 / p(action)] is the number of actions, where p is the probability with which they were taken
    inverse = samples["log_prob"].neg().exp()
    assert inverse.mean().item() == pytest.approx(2, abs=4 * inverse.std().item() / 6000**0.5)
    env.close()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_weights_move_in_every_training_step(precision: str):
    """Lightning sets gradients to None once; flat ones not attached again train nothing."""
    module = WatchedPPO(hidden=(8,), batch_size=32)
    fit(module, cartpole(), precision=precision)
    assert min(module.moved) > 1e-3

    moved = []

    class Watched(SAC):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            before = [parameters_of(part) for part in (self.actor, self.critics, self.targets)]
            super().training_step(batch, batch_idx)
            after = [parameters_of(part) for part in (self.actor, self.critics, self.targets)]
            moved.append([(a - b).norm().item() for a, b in zip(after, before, strict=True)])

    data = ReplayDataModule(
        "Pendulum-v1", steps_per_batch=4, batch_size=8, warmup_steps=8, batches_per_epoch=2, check=False
    )
    fit(Watched(hidden=(8,)), data, precision=precision)
    assert len(moved) == 2
    assert np.min(moved) > 1e-6


def test_counters_are_exact():
    module = PPO(hidden=(8,), batch_size=16, update_epochs=2)
    logger = fit(module, cartpole(), max_epochs=2)
    assert module.policy_version == 6
    assert module.env_steps == 6 * 16 * 4
    assert module.updates == 6 * 2 * 4  # rollouts * epochs * minibatches
    assert [step for step, _ in logger.rows] == [64, 128, 192, 256, 320, 384]
    assert logger.column("update/gradient_steps") == [8, 16, 24, 32, 40, 48]
    assert logger.column("update/policy_version") == [1, 2, 3, 4, 5, 6]
    assert module.trainer.global_step == 0  # ours are the counters, not Lightning's


def collect(
    mode: Autoreset, env: Any = Episodes57, num_steps: int = 60, **arguments: Any
) -> tuple[PPO, Rollout]:
    envs = make_vector_env(env, 3, autoreset=mode)
    torch.manual_seed(5)
    module = PPO(hidden=(16,), spec=envs.spec, gamma=0.9, gae_lambda=0.8, **arguments)
    module.configure_model()
    with torch.no_grad():
        rollout = InlineCollector(envs, seed=0).collect(module, num_steps, 0)
    envs.close()
    return module, rollout


def complete_episodes(values: Tensor, rollout: Rollout) -> dict[tuple[int, int], list[float]]:
    """``values`` (T, N) of true transitions by (environment, episode), complete episodes only."""
    steps, envs = values.shape
    valid = torch.ones(steps, envs, dtype=torch.bool) if rollout["valid"] is None else rollout["valid"]
    done = rollout["terminated"] | rollout["truncated"]
    episodes: dict[tuple[int, int], list[float]] = {}
    for n in range(envs):
        running = []
        for t in range(steps):
            if valid[t, n]:
                running.append(values[t, n].item())
            if done[t, n]:
                episodes[n, round(rollout["obs"][t, n, 0].item() * 8)] = running
                running = []
    return episodes


@pytest.mark.parametrize("arguments", [{}, {"gru": 8, "chunk_length": 20}])
def test_advantages_are_equal_under_all_autoresets(arguments: dict[str, Any]):
    """Of true transitions; episodes of 5 truncated and 7 terminated steps."""
    by_mode = []
    for mode in MODES:
        module, rollout = collect(mode, batch_size=60, **arguments)
        with torch.no_grad():
            samples, _ = samples_of(module, rollout)
        advantage = samples["advantage"]
        if "gru" in arguments:  # chunks (T/L * N, L) back to (T, N)
            advantage = advantage.unflatten(0, (3, 3)).transpose(1, 2).flatten(0, 1)
        by_mode.append(complete_episodes(advantage.reshape(60, 3), rollout))
    common = set.intersection(*(set(episodes) for episodes in by_mode))
    assert len(common) >= 22
    for key in common:
        assert len(by_mode[0][key]) == (7 if key[1] % 2 else 5)
        for other in by_mode[1:]:
            assert other[key] == pytest.approx(by_mode[0][key], rel=1e-5, abs=1e-5)


def test_advantages_against_a_slow_twin():
    """delta and lambda sums written out per episode, with the value of the true last observation."""
    module, rollout = collect("next_step")
    with torch.no_grad():
        samples, _ = samples_of(module, rollout)
    episodes = complete_episodes(samples["advantage"].view(60, 3), rollout)
    network = module.policy.network

    def value(episode: int, t: int) -> float:
        obs = torch.tensor([[episode / 8, t / 8, 1]])
        return network.critic(obs).item()

    for (_, k), got in episodes.items():
        length, terminates = (7, True) if k % 2 else (5, False)
        advantage, expected = 0.0, []
        for t in reversed(range(length)):
            following = 0.0 if terminates and t == length - 1 else value(k, t + 1)
            advantage = t + 10 * k + 0.9 * following - value(k, t) + 0.9 * 0.8 * advantage
            expected.insert(0, advantage)
        assert got == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("arguments", [{}, {"gru": 8, "chunk_length": 20}])
def test_rows_that_only_reset_are_never_trained_on(arguments: dict[str, Any]):
    module, rollout = collect("next_step", batch_size=60, **arguments)
    assert rollout["valid"] is not None
    with torch.no_grad():
        samples, _ = samples_of(module, rollout)
    if "gru" in arguments:
        assert samples["weight"].sum() == rollout["valid"].sum()
        return
    marked = samples | {"valid": rollout["valid"].flatten()}
    for minibatches in module.policy.minibatches(marked, rollout["valid"], Ranks(), 60):
        assert [len(minibatch["valid"]) for minibatch in minibatches] == [60, 60, 60]
        assert all(minibatch["valid"].all() for minibatch in minibatches)


@pytest.mark.parametrize("normalize", ["normalize_observation", "normalize_return"])
def test_statistics_see_true_transitions_only(normalize: str):
    """Normalizers end with the moments of the rows that are transitions, whatever the autoreset."""
    data = RolloutDataModule(Episodes57, 2, 24, rollouts_per_epoch=1)
    module = PPO(hidden=(8,), batch_size=12, spec=data.spec, **{normalize: True})
    env = make_vector_env(Episodes57, 2, autoreset="next_step")
    data.environments.collector.env = env
    seen: list[Rollout] = []
    collect_rollout = data.environments.collect
    data.environments.collect = lambda *args: seen.append(collect_rollout(*args)) or seen[-1]  # type: ignore[method-assign]
    fit(module, data)
    (rollout,) = seen
    assert rollout["valid"] is not None
    valid = rollout["valid"].numpy()
    if normalize == "normalize_observation":
        samples = rollout["obs"][:-1].numpy()[valid]
        moments = cast(ObservationNorm, module.policy.observation_norm).norms["leaf:obs"]
    else:
        running, samples = np.zeros(2), []
        for t in range(24):
            running = 0.99 * running + rollout["reward"][t].numpy()
            samples += running[valid[t]].tolist()
            running[(rollout["terminated"] | rollout["truncated"])[t].numpy()] = 0
        moments = cast(ReturnScale, module.policy.return_scale).moments
    assert moments.count == valid.sum()
    np.testing.assert_allclose(moments.mean, np.mean(samples, 0), rtol=1e-6)
    np.testing.assert_allclose(moments.variance, np.var(samples, 0), rtol=1e-6)


def test_replayed_transitions_are_equal_under_all_autoresets():
    sets = []
    for mode in MODES:
        _, rollout = collect(mode, ContinuousEpisodes57)
        fields = transitions(rollout)
        rows = set()
        for t, n in fields["valid"].nonzero().tolist():
            ends = (fields["terminated"][t, n].item(), fields["truncated"][t, n].item())
            obs, next_obs = (
                tuple((fields[name][t, n] * 8).round().int().tolist()) for name in ("obs", "next_obs")
            )
            rows.add((n, obs, next_obs, fields["reward"][t, n].item(), *ends))
        # environments whose every fifth or seventh call only resets come less far
        sets.append({row for row in rows if row[1][0] < 8})
    assert sets[0] == sets[1] == sets[2]
    assert all(obs[:1] == next_obs[:1] and next_obs[1] == obs[1] + 1 for _, obs, next_obs, *_ in sets[0])
    assert len(sets[0]) == sum(7 if k % 2 else 5 for start in range(3) for k in range(start, 8))


def test_the_message_of_an_old_batch_names_both_versions():
    module = PPO(hidden=(8,))
    module.policy_version = 7
    batch: Any = {"policy_version": 7}
    module.begin_batch(batch, is_on_policy=True)
    batch["policy_version"] = 5
    module.begin_batch(batch, is_on_policy=False)
    with pytest.raises(RuntimeError, match=re.escape("policy version 7, got 5")):
        module.begin_batch(batch, is_on_policy=True)
