from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule, metrics
from lit_rl.callbacks import EpisodeStats, RolloutCheckpoint
from lit_rl.cli.metrics_csv import MetricsCSV
from tests.toys import ContinuousEpisodes57, Episodes57, MemoryLogger, fit, make_trainer


class Reports(Episodes57):
    """Reports success of the longer episodes, and how far it is."""

    def step(self, action: Any) -> tuple:
        *rest, info = super().step(action)
        won = float(self.t == 7)
        return (*rest, {**info, "is_success": won, "coverage_ratio": self.t / 10})


def ppo() -> PPO:
    return PPO(hidden=(4,), batch_size=8, update_epochs=1)


def points(logger: MemoryLogger, name: str) -> list[tuple[int | None, float]]:
    return [(step, values[name]) for step, values in logger.rows if name in values]


def test_episodes_are_points_at_their_own_step():
    # one environment: episodes 0, 1, 2 end after 5, 12 and 17 steps with returns 10, 91, 110
    logger = fit(ppo(), RolloutDataModule(Episodes57, 1, 8, 3, seed=6), callbacks=[EpisodeStats()])
    assert points(logger, "Training/Episode_Reward") == [(5, 10), (12, 91), (17, 110), (24, 231)]
    assert points(logger, "actor/episode_reward") == points(logger, "Training/Episode_Reward")
    assert points(logger, "Training/Episode_Length") == [(5, 5), (12, 7), (17, 5), (24, 7)]
    assert logger.column("actor/episode_count") == [1, 2, 3, 4]
    of_points = [v["actor/total_steps"] for _, v in logger.rows if "actor/episode_reward" in v]
    assert of_points == [5, 12, 17, 24]
    assert set(logger.column("actor/exploration_phase")) == {0}
    assert "actor/avg_action_magnitude" not in {name for _, row in logger.rows for name in row}


def test_means_by_hand_and_their_period():
    data = RolloutDataModule(Episodes57, 1, 8, 3, seed=6)
    logger = fit(ppo(), data, callbacks=[EpisodeStats(log_period=16)])
    (first,) = points(logger, "Training/Avg_Reward_10ep")  # at 24 steps 8 have passed, which is not enough
    assert first == (16, (10 + 91) / 2)
    assert points(logger, "actor/avg_episode_reward_10") == [first]
    assert points(logger, "Training/Reward_Std_100ep") == [(16, pytest.approx(81 / math.sqrt(2)))]
    assert (
        points(logger, "actor/max_episode_reward")
        == points(logger, "Training/Reward_Max_100ep")
        == [(16, 91)]
    )
    assert (
        points(logger, "actor/min_episode_reward")
        == points(logger, "Training/Reward_Min_100ep")
        == [(16, 10)]
    )
    assert points(logger, "actor/avg_episode_length_10") == [(16, 6)]
    assert points(logger, "Training/Episodes_Completed") == [(16, 2)]
    assert logger.column("actor/steps_per_second") == logger.column("Training/Steps_Per_Second")
    assert logger.column("actor/steps_per_second")[0] > 0


def test_the_windows_hold_ten_and_a_hundred():
    callback = EpisodeStats()
    state = {**callback.state_dict(), "returns": [float(k) for k in range(150)], "lengths": list(range(30))}
    callback.load_state_dict(state)
    windows = callback._windows()
    assert windows["Training/Avg_Reward_10ep"] == sum(range(140, 150)) / 10
    assert windows["Training/Reward_Mean_100ep"] == sum(range(50, 150)) / 100
    assert windows["actor/avg_episode_length_10"] == sum(range(20, 30)) / 10
    assert len(callback.state_dict()["returns"]) == 100


def test_what_the_environment_reports():
    data = RolloutDataModule(
        Reports, 1, 24, 1, seed=6, record=["coverage_ratio", "is_success"], eval_episodes=2
    )
    module, callback = PPO(hidden=(4,), batch_size=24), EpisodeStats(log_period=1)
    logger = fit(module, data, callbacks=[callback], limit_val_batches=1.0)
    expected = [(5, 0.3), (12, 0.4), (17, 0.3), (24, 0.4)]  # means of 0.1 .. 0.5, or to 0.7
    assert points(logger, "Performance/Episode_Coverage_Ratio") == [
        (step, pytest.approx(value)) for step, value in expected
    ]
    assert logger.column("Training/Success_Rate_100ep") == [0.5]
    assert len(logger.column("eval/success_rate")) == 1
    assert not any(
        "success" in name.lower() for _, row in logger.rows for name in row if "Performance" in name
    )


def test_evaluations_under_all_their_names():
    data = RolloutDataModule(Episodes57, 1, 8, 1, seed=6, eval_episodes=2)  # episodes 0 and 1, or 1 and 2
    logger = fit(ppo(), data, callbacks=[EpisodeStats()], limit_val_batches=1.0)
    (row,) = (values for _, values in logger.rows if metrics.EVAL_RETURN in values)
    (again,) = (values for _, values in logger.rows if "Eval/MeanReward" in values)
    assert row["eval/return_min"] < row["eval/return_mean"] < row["eval/return_max"]
    assert again == {
        "eval/mean_reward": row["eval/return_mean"],
        "eval/mean_length": row["eval/length_mean"],
        "Eval/MeanReward": row["eval/return_mean"],
        "Eval/StdReward": row["eval/return_std"],
        "Eval/MinReward": row["eval/return_min"],
        "Eval/MaxReward": row["eval/return_max"],
    }


def test_sac_knows_when_it_explores():
    data = ReplayDataModule(
        ContinuousEpisodes57, 1, 8, batch_size=4, warmup_steps=11, batches_per_epoch=2, seed=6
    )
    logger = fit(SAC(hidden=(4,)), data, callbacks=[EpisodeStats(log_period=20)])
    # warm-up: 11 steps; the first batch ends after 19
    assert points(logger, "actor/exploration_phase") == [(5, 1), (12, 0), (17, 0), (24, 0)]
    assert all(0 < norm < math.hypot(2, 10) for norm in logger.column("actor/avg_action_magnitude"))
    assert points(logger, "actor/replay_buffer_size") == [(27, 27)]  # the first 16 steps are too few
    assert len(logger.column("actor/avg_action_magnitude")) == 4


def test_points_are_bounded_and_what_is_left_out_is_said(caplog: pytest.LogCaptureFixture):
    callback = EpisodeStats(log_period=1, max_points=2)
    with caplog.at_level(logging.INFO, "lit_rl"):
        logger = fit(ppo(), RolloutDataModule(Episodes57, 1, 24, 1, seed=6), callbacks=[callback])
    assert points(logger, "Training/Episode_Reward") == [(12, 91), (24, 231)]
    assert logger.column("Training/Reward_Mean_100ep") == [(10 + 91 + 110 + 231) / 4]
    assert (
        "2 of 4 episodes have no point of their own (more than max_points = 2 ended in a batch)"
        in caplog.text
    )


def test_the_table_of_batches_gets_the_last_episode(tmp_path):
    trainer = make_trainer(logger=[MetricsCSV(tmp_path)], callbacks=[EpisodeStats()])
    trainer.fit(ppo(), datamodule=RolloutDataModule(Episodes57, 1, 8, 3, seed=6))
    header, *rows = (tmp_path / "metrics.csv").read_text().splitlines()
    table = [dict(zip(header.split(","), row.split(","), strict=True)) for row in rows]
    assert [row["step"] for row in table] == ["8", "16", "24"]
    assert [row["Training/Episode_Reward"] for row in table] == ["10.0", "91.0", "231.0"]


def test_resuming_continues_the_statistics():
    whole, first, second = EpisodeStats(), EpisodeStats(), EpisodeStats()
    fit(ppo(), RolloutDataModule(Episodes57, 1, 8, 3, seed=6), callbacks=[whole])
    fit(ppo(), RolloutDataModule(Episodes57, 1, 8, 2, seed=6), callbacks=[first])
    second.load_state_dict(first.state_dict())
    assert first.state_dict()["returns"] == [10, 91]
    assert second.state_dict() == first.state_dict()
    assert whole.state_dict()["returns"] == [10, 91, 110, 231]


def test_the_period_of_the_means_goes_on_after_a_resume(tmp_path):
    def train(epochs: int, checkpoint: Path | None = None) -> list[int | None]:
        logger = MemoryLogger()
        callbacks = [EpisodeStats(log_period=16), RolloutCheckpoint(every_batches=1, save_best=False)]
        trainer = make_trainer(
            logger=logger,
            callbacks=callbacks,
            max_epochs=epochs,
            default_root_dir=tmp_path,
            enable_checkpointing=True,
        )
        data = RolloutDataModule(Episodes57, 1, 8, 3, seed=6)
        trainer.fit(ppo(), datamodule=data, ckpt_path=checkpoint, weights_only=True)
        return [step for step, _ in points(logger, "Training/Avg_Reward_10ep")]

    whole = train(2)
    assert whole == [16, 32, 48]
    assert train(1) == [16]
    assert train(2, tmp_path / "checkpoints" / "last.ckpt") == [32, 48]  # 24 steps: half a period has passed


class _Skilled(Callback):
    """Puts skills into the batch, as a policy with skills would."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        steps, envs = batch["terminated"].shape
        start = torch.zeros(steps, envs, dtype=torch.bool)
        start[::2] = True
        team = (torch.arange(steps) // 2 % 2).unsqueeze(1).expand(steps, envs)
        batch["extras"] |= {"team_skill": team, "skill_start": start}


def test_skills_of_a_policy_that_has_some():
    data = RolloutDataModule(Episodes57, 1, 8, 1, seed=6)
    logger = fit(ppo(), data, callbacks=[_Skilled(), EpisodeStats(log_period=1)])
    # assigned at steps 0, 2, 4 of the first episode: 0, 1, 0; at step 6, the second's second step: 1 after 0
    assert logger.column("Training/Skill_Switches_Total") == [3]
    assert logger.column("Training/Skill_Diversity_Recent") == [pytest.approx(2)]
    without = fit(ppo(), RolloutDataModule(Episodes57, 1, 8, 1), callbacks=[EpisodeStats(log_period=1)])
    assert "Training/Skill_Switches_Total" not in {name for _, row in without.rows for name in row}


@pytest.mark.parametrize("arguments", [{"log_period": 0}, {"max_points": 0}])
def test_arguments_are_checked(arguments: dict[str, int]):
    with pytest.raises(ValueError, match=r"= 0, expected \w+ >= 1"):
        EpisodeStats(**arguments)
