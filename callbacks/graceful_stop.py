"""Ends training cleanly when the process is asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

_log = logging.getLogger("lit_rl")

SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name))


class GracefulStop(Callback):
    """Turns SIGTERM, Ctrl-C and SIGUSR1 into the end of training after the running batch.

    Lightning saves nothing on SIGTERM and hangs when a whole group of ranks gets it, because it communicates
    inside the handler. Here the handler only sets a flag; the ranks agree on it once per batch.
    ``RolloutCheckpoint`` sees ``exit_code`` and saves ``last.ckpt`` in the same hook (Lightning runs
    checkpoint callbacks last). The final validation is skipped. A second Ctrl-C raises KeyboardInterrupt at
    once.

    Attributes:
        exit_code: What the process should exit with, 128 + signal (143 SIGTERM, 130 SIGINT, 138 SIGUSR1), on
            every rank alike; None as long as nobody asked to stop.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._received = 0
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._limit_val_batches: int | float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which registers its own handlers just before."""
        self.exit_code, self._received = None, 0
        if threading.current_thread() is not threading.main_thread():
            _log.info("GracefulStop is off: Python delivers signals to the main thread only.")
            return
        for signum in SIGNALS:
            self._previous[signum] = signal.signal(signum, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the ranks agree, then stop all of them after this batch."""
        signum = self._received
        if trainer.world_size > 1:
            flag = torch.tensor(float(signum), device=trainer.strategy.root_device)
            signum = int(torch.as_tensor(trainer.strategy.reduce(flag, reduce_op="max")).item())
        if signum and self.exit_code is None:
            self.exit_code = 128 + signum
            self._limit_val_batches, trainer.limit_val_batches = trainer.limit_val_batches, 0
            trainer.should_stop = True

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give the signals back."""
        self._restore(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the signals back before Lightning does the same; ``teardown`` would undo that."""
        self._restore(trainer)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if self._received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signum
        note = f"\n{signal.Signals(signum).name}: training stops after this batch and a checkpoint.\n"
        os.write(2, note.encode())  # a handler may interrupt a print: buffered streams are not re-entrant

    def _restore(self, trainer: Trainer) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._previous.clear()
        if self._limit_val_batches is not None:
            trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None
