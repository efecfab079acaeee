"""How a throughput is measured, the same way for ours and for the peers.

The clock runs from the end of the first batches to the end of the last one: imports, making environments,
the first batches (compilation falls into them) and closing down are outside. Ours is run as users run it,
through a ``Trainer``, with loggers, checkpoints and evaluation off; the peers write no log either, except
CleanRL's script, which always does.
"""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

from lit_rl.callbacks import EnvStepBudget
from lit_rl.metrics import UPDATE_SECONDS


@dataclass(frozen=True)
class Timing:
    """What was done in how much time.

    Args:
        seconds: Wall time.
        cpu_seconds: Time of all threads of the process; below ``threads * seconds`` it was disturbed.
        env_steps: Env steps in that time.
        updates: Gradient steps in that time.
        update_seconds: Wall time of ``training_step`` alone; None for the peers.
    """

    seconds: float
    cpu_seconds: float
    env_steps: int
    updates: int
    update_seconds: float | None = None


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
) -> Timing:
    """Train for ``env_steps`` and time it, without the first ``skip`` batches."""
    quiet()
    lightning.seed_everything(seed, verbose=False)
    clock = Clock(skip)
    trainer = Trainer(
        accelerator="cpu",
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


def time_sb3(model: Any, warmup_steps: int, steps: int, updates_per_step: float, *, restart: bool) -> Timing:
    """Time Stable-Baselines3's ``learn`` after a short one that is not timed.

    Args:
        model: The algorithm.
        warmup_steps: Env steps of the learn that is not timed.
        steps: Env steps to time (PPO rounds up to whole rollouts).
        updates_per_step: Gradient steps per env step.
        restart: Whether schedules start anew; False continues, which keeps the warm-up of SAC behind us.
    """
    model.learn(warmup_steps)
    before = 0 if restart else model.num_timesteps
    start, cpu_start = time.perf_counter(), time.process_time()
    model.learn(steps, reset_num_timesteps=restart)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    done = model.num_timesteps - before
    return Timing(seconds, cpu_seconds, done, round(done * updates_per_step))


def report(timing: Timing, **labels: Any) -> None:
    """Print one line of JSON, the last line of every benchmark script; ``run_all.py`` reads it."""
    result = {
        "env_steps_per_s": timing.env_steps / timing.seconds,
        "updates_per_s": timing.updates / timing.seconds,
        "seconds": timing.seconds,
        "env_steps_per_cpu_s": timing.env_steps / timing.cpu_seconds,
        "updates_per_cpu_s": timing.updates / timing.cpu_seconds,
        "cores_used": timing.cpu_seconds / timing.seconds,
        "threads": torch.get_num_threads(),
    }
    if timing.update_seconds is not None:
        result["ms_in_training_step"] = 1e3 * timing.update_seconds / timing.updates
    print(json.dumps(result | labels))


def quiet() -> None:
    """Keep Lightning's notes and warnings of third parties off the terminal."""
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
