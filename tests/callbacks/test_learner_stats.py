from __future__ import annotations

import pytest

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks import LearnerStats
from tests.toys import ContinuousEpisodes57, Episodes57, fit


def test_sac_under_the_names_of_its_learner():
    data = ReplayDataModule(
        ContinuousEpisodes57, 1, 8, batch_size=4, warmup_steps=8, batches_per_epoch=2, eval_episodes=1
    )
    logger = fit(SAC(hidden=(4,)), data, callbacks=[LearnerStats()], limit_val_batches=1.0)
    same = {
        "sac/actor_loss": "loss/policy",
        "sac/critic_loss": "loss/critic",
        "sac/entropy": "policy/entropy",
        "sac/temperature": "policy/temperature",
        "sac/temperature_loss": "loss/temperature",
        "timer/train": "time/update_s",
    }
    for ours, name in same.items():
        assert len(logger.column(ours)) == 2
        assert logger.column(ours) == logger.column(name)
    assert logger.column("learner/update_steps") == [8, 16, 16]  # and once more with the evaluation
    assert logger.column("learner/replay_buffer_size") == [16, 24]
    for row in (row for _, row in logger.rows if "timer/total" in row):
        assert all(
            row[f"timer/{part}"] > 0 for part in ("sample_actions", "step_env", "sample_replay_buffer")
        )
        assert row["timer/sample_actions"] + row["timer/step_env"] == pytest.approx(row["time/collect_s"])
        parts = ("sample_actions", "step_env", "sample_replay_buffer", "train")
        assert sum(row[f"timer/{part}"] for part in parts) <= row["timer/total"]
    (seconds,) = logger.column("timer/eval")
    assert seconds > 0


def test_ppo_has_no_temperature_and_no_ring():
    logger = fit(
        PPO(hidden=(4,), batch_size=8), RolloutDataModule(Episodes57, 1, 8, 2), callbacks=[LearnerStats()]
    )
    names = {name for _, row in logger.rows for name in row}
    assert {"learner/update_steps", "timer/step_env", "timer/train"} <= names
    assert not any(name.startswith("sac/") for name in names)
    assert "learner/replay_buffer_size" not in names


def test_a_batch_is_one_row():
    logger = fit(
        PPO(hidden=(4,), batch_size=8), RolloutDataModule(Episodes57, 1, 8, 2), callbacks=[LearnerStats()]
    )
    assert [step for step, _ in logger.rows] == [8, 16]
