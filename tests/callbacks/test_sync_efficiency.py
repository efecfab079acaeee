from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks import EnvStepBudget, SyncEfficiency
from tests.toys import ContinuousEpisodes57, Episodes57, fit


def ppo() -> PPO:
    return PPO(hidden=(4,), batch_size=8, update_epochs=1)


def lines(directory: Path) -> list[str]:
    text = (directory / "logs" / "sync_training.log").read_text()
    return [line.split(" ", 2)[2] for line in text.splitlines()]  # without date and time


class Clock(Callback):
    """Sets the seconds of collection and update, 1.5 + k and 0.5."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        batch["collect_s"] = 1.5 + self.batches
        pl_module.progress_metrics["time/update_s"] = 0.5
        self.batches += 1


def test_efficiency_by_hand(tmp_path: Path):
    data = RolloutDataModule(Episodes57, 2, 8, 12)
    logger = fit(ppo(), data, callbacks=[Clock(), SyncEfficiency()], default_root_dir=tmp_path)
    expected = [16 / (2 + k) for k in range(12)]
    assert logger.column("Sync/Efficiency") == pytest.approx(expected)
    assert logger.column("Sync/Avg_Efficiency_10updates")[1] == pytest.approx((16 / 2 + 16 / 3) / 2)
    assert logger.column("Sync/Avg_Efficiency_10updates")[-1] == pytest.approx(sum(expected[2:]) / 10)
    assert logger.column("Sync/CollectionTime") == [1.5 + k for k in range(12)]
    assert logger.column("Sync/Avg_Collection_Time_10updates")[-1] == pytest.approx(1.5 + 6.5)
    assert logger.column("Sync/UpdateTime") == logger.column("Sync/Avg_Update_Time_10updates") == [0.5] * 12
    versions = list(range(1, 13))
    for name in ("Sync/Total_Updates", "Sync/Current_Policy_Version", "Sync/PolicyVersion"):
        assert logger.column(name) == versions
    for name in ("Sync/SamplesCollected", "Sync/BatchSize", "Buffer/SamplesCollected"):
        assert logger.column(name) == [16] * 12
    contributions = [logger.column(f"Buffer/env_{n}_contribution") for n in (0, 1)]
    assert contributions == [[8, 8], [8, 8]]  # of the first and the eleventh update


def test_unpatched_times_are_those_of_the_batch(tmp_path: Path):
    data = RolloutDataModule(Episodes57, 2, 8, 2)
    logger = fit(ppo(), data, callbacks=[SyncEfficiency()], default_root_dir=tmp_path)
    assert logger.column("Sync/CollectionTime") == logger.column("time/collect_s")
    assert logger.column("Sync/UpdateTime") == logger.column("time/update_s")


def test_the_three_lines(tmp_path: Path):
    data = RolloutDataModule(Episodes57, 2, 8, 2)
    fit(ppo(), data, callbacks=[EnvStepBudget(64), SyncEfficiency()], default_root_dir=tmp_path)
    first, second, third, *rest = lines(tmp_path)
    assert first == "sync update starts: 16 samples collected, policy version 0"
    assert second == "sync update done: policy version now 1, sample count reset"
    assert re.fullmatch(r"training progress: 16/64 \(25\.0%\), updates: 1, episodes: 2, \d+ steps/s", third)
    assert rest[0] == "sync update starts: 16 samples collected, policy version 1"
    assert re.fullmatch(r"sync efficiency of the last 2 updates: [\d.]+ \+- [\d.]+ samples/s", rest[-1])
    assert len(rest) == 4


def test_fewer_lines_at_level_info(tmp_path: Path):
    callback = SyncEfficiency(log_level="INFO", progress_every=2)
    fit(ppo(), RolloutDataModule(Episodes57, 2, 8, 5), callbacks=[callback], default_root_dir=tmp_path)
    assert [line.partition(",")[0] for line in lines(tmp_path)[:-1]] == [
        "training progress: 32",
        "training progress: 64",
    ]


def test_samples_of_replay_and_its_many_versions(tmp_path: Path):
    data = ReplayDataModule(ContinuousEpisodes57, 2, 8, batch_size=4, warmup_steps=8, batches_per_epoch=2)
    logger = fit(SAC(hidden=(4,)), data, callbacks=[SyncEfficiency()], default_root_dir=tmp_path)
    assert logger.column("Sync/SamplesCollected") == [24, 16]  # the first batch plays the warm-up, too
    assert logger.column("Sync/BatchSize") == [64, 64]  # 16 minibatches of 4
    assert logger.column("Buffer/env_1_contribution") == [12]


class Older(Callback):
    """Makes the second batch one of the version before."""

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        batch["policy_version"] = 0


def test_a_batch_of_an_older_policy_is_refused(tmp_path: Path):
    with pytest.raises(
        RuntimeError, match=r"every sample must be of policy version 1, .* got a batch of version 0"
    ):
        fit(
            ppo(),
            RolloutDataModule(Episodes57, 2, 8, 2),
            callbacks=[Older(), SyncEfficiency()],
            default_root_dir=tmp_path,
        )
    assert lines(tmp_path)[-1].startswith("training ended by RuntimeError: SyncEfficiency: every sample")


def test_few_environments_are_shown_of_many(tmp_path: Path):
    callback = SyncEfficiency(max_envs=1)
    logger = fit(
        ppo(), RolloutDataModule(Episodes57, 2, 8, 1), callbacks=[callback], default_root_dir=tmp_path
    )
    names = {name for _, row in logger.rows for name in row}
    assert {name for name in names if "contribution" in name} == {"Buffer/env_0_contribution"}


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "logs").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "lit_rl"):
        logger = fit(
            ppo(),
            RolloutDataModule(Episodes57, 2, 8, 3),
            callbacks=[SyncEfficiency()],
            default_root_dir=tmp_path,
        )
    assert len(logger.column("Sync/Efficiency")) == 3
    assert caplog.text.count("cannot be written") == 1


def test_a_disk_that_fills_up_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "sync_training.log").symlink_to("/dev/full")
    with caplog.at_level(logging.WARNING, "lit_rl"):
        fit(
            ppo(),
            RolloutDataModule(Episodes57, 2, 8, 3),
            callbacks=[SyncEfficiency()],
            default_root_dir=tmp_path,
        )
    assert caplog.text.count("cannot be written (No space left on device); its lines are lost") == 1


@pytest.mark.parametrize("arguments", [{"log_level": "LOUD"}, {"progress_every": 0}, {"max_envs": -1}])
def test_arguments_are_checked(arguments: dict[str, Any]):
    with pytest.raises(ValueError, match=f"SyncEfficiency: {next(iter(arguments))} = "):
        SyncEfficiency(**arguments)
