"""How the throughput of ours is measured; ``timing.py`` does the same for the peers.

The clock runs from the end of the first batches to the end of the last one: imports, making environments,
the first batches (compilation falls into them) and closing down are outside. Ours is run as users run it,
through a ``Trainer``, with loggers, checkpoints and evaluation off; the peers write no log either, except
CleanRL's script, which always does.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from typing import Any

import lightning
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from timing import Timing

from lit_rl.callbacks import EnvStepBudget
from lit_rl.metrics import UPDATE_SECONDS


class Clock(Callback):
    """Reads the time and the learner's counters after each batch; the first ``skip`` batches do not count."""

    def __init__(self, skip: int) -> None:
        self.skip = skip
        self._first: Timing | None = None
        self._last: Timing | None = None
        self._update_seconds = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember where we are."""
        self._update_seconds += pl_module.progress_metrics[UPDATE_SECONDS]
        self._last = Timing(
            time.perf_counter(),
            time.process_time(),
            pl_module.env_steps,
            pl_module.updates,
            self._update_seconds,
        )
        if pl_module.policy_version == self.skip:
            self._first = self._last

    def timing(self) -> Timing:
        """From the end of batch ``skip`` to the end of the last one."""
        first, last = self._first, self._last
        if first is None or last is None or first is last:
            raise ValueError(f"the run was too short: its first {self.skip} batches do not count")
        assert first.update_seconds is not None
        assert last.update_seconds is not None
        return Timing(
            last.seconds - first.seconds,
            last.cpu_seconds - first.cpu_seconds,
            last.env_steps - first.env_steps,
            last.updates - first.updates,
            last.update_seconds - first.update_seconds,
        )


def fit(
    module: LightningModule,
    data: LightningDataModule,
    env_steps: int,
    seed: int,
    skip: int = 2,
    callbacks: Sequence[Callback] = (),
    accelerator: str = "cpu",
) -> Timing:
    """Train for ``env_steps`` and time it, without the first ``skip`` batches."""
    quiet()
    lightning.seed_everything(seed, verbose=False)
    clock = Clock(skip)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        callbacks=[EnvStepBudget(env_steps), clock, *callbacks],
    )
    trainer.fit(module, datamodule=data)
    return clock.timing()


def quiet() -> None:
    """Keep Lightning's notes and warnings of third parties off the terminal."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
