"""Logs what the learner does under the names of asynchronous SAC: ``sac/*``, ``learner/*``, ``timer/*``."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_rl import metrics
from lit_rl.types import Learner, ReplayBatch, Rollout, as_learner

_OF_SAC = {
    metrics.LOSS_POLICY: metrics.SAC_ACTOR_LOSS,
    metrics.LOSS_CRITIC: metrics.SAC_CRITIC_LOSS,
    metrics.ENTROPY: metrics.SAC_ENTROPY,
    metrics.TEMPERATURE: metrics.SAC_TEMPERATURE,
    metrics.LOSS_TEMPERATURE: metrics.SAC_TEMPERATURE_LOSS,
}


class LearnerStats(Callback):
    """Logs losses of SAC, update steps, size of the replay ring, and where the time goes, once per batch.

    ``sac/*`` is logged for learners that have an entropy temperature; the rest for every learner.

    Raises:
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(self) -> None:
        self._batch_ended = time.perf_counter()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "LearnerStats")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of ``timer/total``."""
        self._batch_ended = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Rollout | ReplayBatch,
        batch_idx: int,
    ) -> None:
        """Log the row of the batch."""
        module, known = self._learner, self._learner.progress_metrics
        now = time.perf_counter()
        values: dict[str, float] = {
            metrics.LEARNER_UPDATES: module.updates,
            metrics.TIMER_ENV: batch["env_s"],
            metrics.TIMER_ACT: batch["collect_s"] - batch["env_s"],
            metrics.TIMER_TRAIN: known[metrics.UPDATE_SECONDS],
            metrics.TIMER_TOTAL: now - self._batch_ended,
        }
        self._batch_ended = now
        if "replay_size" in batch:
            values[metrics.LEARNER_REPLAY_SIZE] = batch["replay_size"]
            values[metrics.TIMER_SAMPLE] = batch["sample_s"]
        if metrics.TEMPERATURE in known:
            values.update({ours: known[name] for name, ours in _OF_SAC.items() if name in known})
        module.log_values(values)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the seconds of the evaluation, which is in no other timer."""
        if trainer.state.fn == TrainerFn.FITTING:
            module = self._learner
            module.log_values(
                {metrics.TIMER_EVAL: module.eval_seconds, metrics.LEARNER_UPDATES: module.updates}
            )
            self._batch_ended = time.perf_counter()
