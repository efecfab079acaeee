"""Watches strictly synchronous training: policy versions, samples, seconds of collection and update."""

from __future__ import annotations

import logging
import statistics
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl import metrics
from lit_rl.arguments import Count, Number, check_arguments
from lit_rl.callbacks.trainer.attributes import is_dry_run, total_env_steps
from lit_rl.files import open_own
from lit_rl.types import Learner, ReplayBatch, Rollout, as_learner

_log = logging.getLogger("lit_rl")

_WINDOW = 10
"""Updates in the means, and from one count of contributions to the next."""


class SyncEfficiency(Callback):
    """Logs ``Sync/*`` and ``Buffer/*`` once per update, and three lines of text per update.

    The lines go to ``file`` in the run directory, ``logs/sync_training.log`` by default::

        sync update starts: 1024 samples collected, policy version 15
        sync update done: policy version now 16, sample count reset
        training progress: 32768/4000000 (0.8%), updates: 32, episodes: 156, 512 steps/s

    Efficiency is samples / (collection seconds + update seconds), from unrounded times; the update's clock is
    read after the device finished. An on-policy batch of another policy version than the one being trained
    raises.

    Args:
        log_level: ``INFO`` writes a progress line every ``progress_every`` updates, ``DEBUG`` all three lines
            at every update.
        progress_every: Updates between two progress lines at level ``INFO``.
        max_envs: Up to so many environments of this rank get their ``Buffer/env_{}_contribution``, of every
            tenth update.
        file: Path of the file of these lines, within the run directory.

    Raises:
        MisconfigurationException: An argument is out of range.
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(
        self,
        log_level: Literal["DEBUG", "INFO"] = "DEBUG",
        progress_every: Count = 10,
        max_envs: Number = 64,
        file: str = "logs/sync_training.log",
    ) -> None:
        check_arguments(SyncEfficiency, locals())
        if not Path(file).name or Path(file).is_absolute() or ".." in Path(file).parts:
            raise MisconfigurationException(
                f"SyncEfficiency: file must be a path within the run directory, got {file!r}"
            )
        self.log_level, self.progress_every, self.max_envs = log_level, progress_every, max_envs
        self.file = file
        self._collection: deque[float] = deque(maxlen=_WINDOW)
        self._update: deque[float] = deque(maxlen=_WINDOW)
        self._efficiency: deque[float] = deque(maxlen=_WINDOW)
        self._contribution_names = [metrics.BUFFER_CONTRIBUTION.format(env) for env in range(max_envs)]
        self._env_steps = 0  # after the batch before
        self._total: int | None = None
        self._text = _TextLog()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "SyncEfficiency")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the text log where the run goes on."""
        self._env_steps = self._learner.env_steps
        self._total = total_env_steps(trainer)
        if trainer.is_global_zero and not is_dry_run(trainer):
            self._text.open(Path(trainer.default_root_dir) / self.file)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Rollout | ReplayBatch, batch_idx: int
    ) -> None:
        """Check the policy version of an on-policy batch.

        Raises:
            RuntimeError: It was collected by another version than the one being trained.
        """
        version = self._learner.policy_version
        if "terminated" in batch and batch["policy_version"] != version:
            raise RuntimeError(
                f"SyncEfficiency: every sample must be of policy version {version}, which is being trained; "
                f"got a batch of version {batch['policy_version']}"
            )
        if self.log_level == "DEBUG":
            samples = batch["new_steps"] * trainer.world_size
            self._text.write(f"sync update starts: {samples} samples collected, policy version {version}")

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Rollout | ReplayBatch,
        batch_idx: int,
    ) -> None:
        """Log one row, and write the lines of the update."""
        module = self._learner
        samples = module.env_steps - self._env_steps
        self._env_steps = module.env_steps
        collection, update = batch["collect_s"], module.progress_metrics[metrics.UPDATE_SECONDS]
        efficiency = samples / (collection + update)
        self._collection.append(collection)
        self._update.append(update)
        self._efficiency.append(efficiency)
        reward = batch["reward"]
        values: dict[str, float] = {
            metrics.SYNC_UPDATES: module.policy_version,
            metrics.SYNC_VERSION: module.policy_version,
            metrics.SYNC_VERSION_SHORT: module.policy_version,
            metrics.SYNC_EFFICIENCY: efficiency,
            metrics.SYNC_EFFICIENCY_10: sum(self._efficiency) / len(self._efficiency),
            metrics.SYNC_COLLECTION: collection,
            metrics.SYNC_COLLECTION_10: sum(self._collection) / len(self._collection),
            metrics.SYNC_UPDATE: update,
            metrics.SYNC_UPDATE_10: sum(self._update) / len(self._update),
            metrics.SYNC_SAMPLES: samples,
            metrics.SYNC_BATCH_SIZE: reward.shape[0] * reward.shape[1],
            metrics.BUFFER_SAMPLES: samples,
        }
        if module.policy_version % _WINDOW == 1:  # counting costs more than all the rest
            values.update(zip(self._contribution_names, _contributions(batch), strict=False))
        module.log_values(values)
        self._write_lines(module)

    def _write_lines(self, module: Learner) -> None:
        if self.log_level == "DEBUG":
            version = module.policy_version
            self._text.write(f"sync update done: policy version now {version}, sample count reset")
        elif module.policy_version % self.progress_every:
            return
        share = f"/{self._total} ({module.env_steps / self._total:.1%})" if self._total else ""
        per_second = module.progress_metrics.get(metrics.STEPS_PER_SECOND)
        speed = f", {per_second:.0f} steps/s" if per_second is not None else ""
        self._text.write(
            f"training progress: {module.env_steps}{share}, updates: {module.policy_version}, "
            f"episodes: {module.num_episodes}{speed}"
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say how steady the last updates were."""
        if len(self._efficiency) > 1:
            mean, std = statistics.fmean(self._efficiency), statistics.stdev(self._efficiency)
            self._text.write(
                f"sync efficiency of the last {len(self._efficiency)} updates: {mean:.1f} +- {std:.1f} "
                "samples/s"
            )
        self._text.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what was written."""
        self._text.write(f"training ended by {type(exception).__name__}: {exception}")
        self._text.close()


class _TextLog:
    """Lines with a time stamp, written once a second; a disk that refuses them costs one warning, no more."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._lines: list[tuple[int, str]] = []
        self._written_at = 0.0

    def open(self, path: Path) -> None:
        self._path, self._written_at = path, time.monotonic()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._give_up(error)

    def write(self, line: str) -> None:
        if self._path is not None:
            self._lines.append((int(time.time()), line))
            if time.monotonic() - self._written_at >= 1.0:
                self._flush(self._path)

    def close(self) -> None:
        if self._path is not None:
            self._flush(self._path)
            self._path = None

    def _flush(self, path: Path) -> None:
        lines, self._lines, self._written_at = self._lines, [], time.monotonic()
        stamps = {second: _stamp(second) for second in {second for second, _ in lines}}
        text = "".join(f"{stamps[second]} {line}\n" for second, line in lines)
        try:
            with open_own(path, "a", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        reason = error.strerror or error
        _log.warning("SyncEfficiency: %s cannot be written (%s); its lines are lost", self._path, reason)
        self._path, self._lines = None, []


def _stamp(second: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))


def _contributions(batch: Rollout | ReplayBatch) -> list[float]:
    """Transitions that each environment of this rank gave."""
    if "terminated" in batch:
        steps, envs = batch["terminated"].shape
        return [steps] * envs if batch["valid"] is None else batch["valid"].cpu().numpy().sum(0).tolist()
    return [batch["new_steps"] / batch["num_envs"]] * batch["num_envs"]
