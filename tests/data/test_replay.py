from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import SAC, ReplayDataModule
from lit_rl.data.replay import _seen
from lit_rl.types import ReplayBatch
from tests.toys import ContinuousEpisodes57, fit, make_trainer


class Keep(SAC):
    """Keeps the batches it is given."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(hidden=(4,), **kwargs)
        self.batches: list[ReplayBatch] = []

    def training_step(self, batch: ReplayBatch, batch_idx: int) -> None:
        self.batches.append(copy.deepcopy(batch))
        super().training_step(batch, batch_idx)


def replay(num_envs: int = 2, steps_per_batch: int = 6, **kwargs: Any) -> ReplayDataModule:
    """Environment i begins with episode i: the seed that 6 becomes is divisible by 3."""
    defaults: dict[str, Any] = {
        "seed": 6,
        "batch_size": 8,
        "capacity": 1000,
        "warmup_steps": 0,
        "batches_per_epoch": 2,
    }
    return ReplayDataModule(ContinuousEpisodes57, num_envs, steps_per_batch, **(defaults | kwargs))


@pytest.mark.parametrize(("updates_per_step", "expected"), [(1.0, 12), (0.25, 3), (2.0, 24)])
def test_the_number_of_minibatches_is_exact(updates_per_step: float, expected: int):
    module = Keep()
    fit(module, replay(updates_per_step=updates_per_step))
    for batch in module.batches:
        assert batch["reward"].shape == batch["discount"].shape == (expected, 8)
        assert batch["obs"].shape == batch["next_obs"].shape == (expected, 8, 3)
        assert batch["action"].shape == (expected, 8, 2)
        assert batch["new_steps"] == 12
    assert module.updates == 2 * expected
    assert module.env_steps == 24


def test_the_warm_up_is_played_once_and_counted():
    module = Keep()
    logger = fit(module, replay(warmup_steps=15), max_epochs=2)  # rounded up to 8 steps of 2 environments
    assert [batch["new_steps"] for batch in module.batches] == [28, 12, 12, 12]
    assert module.env_steps == 64
    assert [step for step, _ in logger.rows] == [28, 40, 52, 64]
    assert module.num_episodes == sum(len(batch["episodes"]["episode_return"]) for batch in module.batches)
    lengths = torch.cat([batch["episodes"]["episode_length"] for batch in module.batches]).tolist()
    assert set(lengths) == {5, 7}


def test_the_policy_plays_on_before_the_first_update_where_training_starts_later():
    """6 steps at random (3 per environment), 10 by the policy, then batches of 6 per environment."""
    module, data = Keep(), replay(warmup_steps=6, training_starts=15, batches_per_epoch=2)
    fit(module, data)
    assert [batch["new_steps"] for batch in module.batches] == [28, 12]
    assert [batch["random_steps"] for batch in module.batches] == [6, 0]
    assert [len(batch["reward"]) for batch in module.batches] == [12, 12]  # no update is caught up with
    assert module.env_steps == data.env_steps_after(2) == 40
    ends = module.batches[0]["episodes"]["end_step"].tolist()
    lengths = module.batches[0]["episodes"]["episode_length"].tolist()
    assert list(zip(ends, lengths, strict=True)) == [(10, 5), (14, 7), (24, 7), (24, 5)]


@pytest.mark.parametrize(("num_envs", "steps", "per_step"), [(16, 16, 0.25), (16, 1, 0.25), (3, 10, 0.1)])
def test_several_environments_share_an_update(num_envs: int, steps: int, per_step: float):
    module = Keep()
    fit(module, replay(num_envs, steps, updates_per_step=per_step, batches_per_epoch=3))
    assert module.updates == round(3 * num_envs * steps * per_step)
    assert module.env_steps == 3 * num_envs * steps


def test_the_warm_up_acts_at_random_over_the_whole_range():
    data = replay(warmup_steps=400, steps_per_batch=1)
    module = Keep()
    module_scale = []

    class Spy(Keep):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            module_scale.append(data.ring.get_state()["fields"]["action"])

    module = Spy()
    fit(module, data)
    warm = module_scale[0][:200].flatten(0, 1)
    assert torch.allclose(warm.amin(0), torch.tensor([-2.0, 0.0]), atol=0.1)
    assert torch.allclose(warm.amax(0), torch.tensor([2.0, 10.0]), atol=0.1)


def rows(batches: list[ReplayBatch]) -> set[tuple[float, ...]]:
    """(episode, t, reward, next episode, next t, discount) of all transitions."""
    found = set()
    for batch in batches:
        obs, next_obs = ((leaf * 8).round()[..., :2] for leaf in (batch["obs"], batch["next_obs"]))
        reward, discount = batch["reward"].unsqueeze(-1), batch["discount"].unsqueeze(-1)
        columns = torch.cat([obs, reward, next_obs, discount], -1).flatten(0, 1)
        found |= {tuple(round(value, 4) for value in row) for row in columns.tolist()}
    return found


@pytest.mark.parametrize("n_step", [1, 3])
def test_transitions_end_in_the_true_last_observation(n_step: int):
    """Sampled from 40 steps of each environment: the n-step sums and discounts by hand."""
    module = Keep(gamma=0.5)
    fit(module, replay(steps_per_batch=40, batch_size=64, batches_per_epoch=1, n_step=n_step))
    found = rows(module.batches)
    expected = set()
    for start in range(2):
        steps = [(k, t) for k in range(start, start + 8) for t in range(7 if k % 2 else 5)][:40]
        for k, t in steps:
            length = 7 if k % 2 else 5
            # the window ends with the episode, or with the newest step of the ring
            used = min(n_step, length - t, len(steps) - steps.index((k, t)))
            reward = sum(0.5**i * (t + i + 10 * k) for i in range(used))
            terminated = bool(k % 2) and t + used == length
            discount = 0.0 if terminated else 0.5**used
            expected.add((k, t, round(reward, 4), k, t + used, discount))
    assert found == expected


def test_new_observations_are_those_before_each_transition():
    module = Keep()
    fit(module, replay(warmup_steps=4))
    first, second = (batch["new_obs"] for batch in module.batches)
    assert first.shape == (16, 3)  # 2 steps at random and 6 of the policy, of 2 environments
    assert (first[:, 1] * 8).tolist()[::2] == [
        0,
        1,
        2,
        3,
        4,
        0,
        1,
        2,
    ]  # never the last of an episode
    assert (second[:, 1] * 8).tolist()[1::2] == [1, 2, 3, 4, 0, 1]
    assert second.shape == (12, 3)


def test_rows_in_which_environments_only_reset_themselves_are_not_new():
    obs = torch.arange(8.0).view(4, 2, 1)
    valid = torch.tensor([[True, True], [False, True], [True, False]])
    rollout: Any = {"obs": {"x": obs}, "valid": valid}
    assert _seen([rollout])["x"].flatten().tolist() == [0, 1, 3, 4]
    assert _seen([rollout, rollout])["x"].flatten().tolist() == [0, 1, 3, 4] * 2


def test_a_full_ring_forgets_the_oldest():
    module = Keep()
    data = replay(capacity=12, batches_per_epoch=4, batch_size=64)
    fit(module, data)
    # the last 6 of 24 steps, of one environment that began with episode 0 and of one with episode 1
    expected = {(3, t) for t in range(1, 7)} | {(3, 6)} | {(4, t) for t in range(5)}
    assert {row[:2] for row in rows(module.batches[-1:])} == expected


def test_the_ring_may_lie_in_files(tmp_path: Path):
    data = replay(memmap=str(tmp_path / "ring"))
    kept = []

    class Spy(Keep):
        def on_train_end(self) -> None:
            kept.extend((tmp_path / "ring" / "rank0").rglob("*.bin"))

    fit(Spy(), data)
    assert kept
    assert not any(path.exists() for path in kept)  # removed with the run


def test_a_failed_fit_leaves_no_file_of_the_ring(tmp_path: Path):
    class Fails(Keep):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert list((tmp_path / "ring" / "rank0").rglob("*.bin"))
            raise ZeroDivisionError("a learner that fails")

    with pytest.raises(ZeroDivisionError, match="a learner that fails"):
        fit(Fails(), replay(memmap=str(tmp_path / "ring")))
    assert not list(tmp_path.rglob("*.bin"))


def test_prediction_is_a_rollout_of_the_greedy_policy():
    module = Keep()
    (rollout,) = make_trainer().predict(module, datamodule=replay())  # type: ignore[misc]
    assert rollout["action"].shape == (6, 2, 2)
    with torch.no_grad():
        greedy = module.act(rollout["obs"][:-1], {}, rollout["reset"][:-1], greedy=True).action
    torch.testing.assert_close(rollout["action"], greedy)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps_per_batch": 0}, "ReplayDataModule: steps_per_batch = 0, expected 1 <= steps_per_batch"),
        ({"batch_size": 0}, "ReplayDataModule: batch_size = 0, expected batch_size >= 1"),
        ({"n_step": 0}, "ReplayDataModule: n_step = 0, expected 1 <= n_step"),
        (
            {"batches_per_epoch": 0},
            "ReplayDataModule: batches_per_epoch = 0, expected batches_per_epoch >= 1",
        ),
        (
            {"updates_per_step": 0.3},
            r"updates_per_step must be .*whole.* minibatches, got 6 \* 2 \* 0\.3 = 3\.6",
        ),
        (
            {"updates_per_step": 0.05},
            r"steps_per_batch \* num_envs \* updates_per_step must be whole minibatches, got 6 .* = 0\.6; "
            r"updates_per_step = 1 / 12 would be",
        ),
        (
            {"warmup_steps": 50, "training_starts": 10},
            "training_starts = 10 must be between warmup_steps = 50, which are part of it, and capacity = 10",
        ),
        ({"training_starts": 2000}, "training_starts = 2000 must be between warmup_steps = 0, .* = 1000"),
        ({"updates_per_step": 0.0}, "updates_per_step = 0.0, expected 0 < updates_per_step"),
        ({"capacity": 11}, "capacity = 11 must hold steps_per_batch"),
        ({"warmup_steps": 2000}, "warmup_steps = 2000; raise"),
        ({"num_envs": 0}, "ReplayDataModule: num_envs = 0, expected 1 <= num_envs"),
        ({"eval_episodes": 0}, "ReplayDataModule: eval_episodes = 0, expected 1 <= eval_episodes"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replay(**arguments)


def test_a_window_longer_than_the_ring():
    with pytest.raises(ValueError, match="n_step must be between 1 and the 6 rows of the ring, got 7"):
        fit(Keep(), replay(capacity=12, n_step=7))
