"""Ends training cleanly when the process is asked to stop."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from lit_rl.processes import STOP_SIGNALS
from lit_rl.terminal import give_up_dead_terminal

_log = logging.getLogger("lit_rl")


class GracefulStop(Callback):
    """Turns SIGTERM, Ctrl-C, SIGHUP and SIGUSR1 into the end of training after the running batch.

    An evaluation that is under way is broken off, and nothing of it is logged: its episodes may be long, or
    never end.

    Lightning saves nothing on SIGTERM and hangs when a whole group of ranks gets it, because it communicates
    inside the handler. Here the handler only sets a flag; the ranks agree on it once per batch.
    ``RolloutCheckpoint`` sees ``exit_code`` and saves ``last.ckpt`` in the same hook (Lightning runs
    checkpoint callbacks last). The final validation is skipped. A second Ctrl-C raises KeyboardInterrupt at
    once. Under ``nohup``, where SIGHUP is ignored, it stays ignored.

    Attributes:
        exit_code: What the process should exit with, 128 + signal (143 SIGTERM, 130 SIGINT, 129 SIGHUP, 138
            SIGUSR1), on every rank alike; None as long as nobody asked to stop.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._received = 0
        self._pid = 0
        self._previous: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._limit_val_batches: int | float | None = None

    @property
    def is_asked_to_stop(self) -> bool:
        """Whether a signal came: what waits for experience must wait no longer."""
        return self._received != 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the signals over from Lightning, which registers its own handlers just before."""
        self.exit_code, self._received, self._pid = None, 0, os.getpid()
        if threading.current_thread() is not threading.main_thread():
            _log.info("GracefulStop is off: Python delivers signals to the main thread only.")
            return
        for signum in STOP_SIGNALS:
            if signum != signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._on_signal)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Let the ranks agree, then stop all of them after this batch."""
        self._stop_if_asked(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop also after an epoch that ended before its time, since it waited for experience."""
        self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an evaluation, which the data module breaks off when a signal comes meanwhile."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: Trainer) -> None:
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
        for signum, handler in self._previous.items():
            signal.signal(signum, handler)
        self._end(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave it to Lightning to give the signals back: a signal must not break off the last checkpoint."""
        self._end(trainer)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # in a process that an environment has forked: it dies of the signal
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        if self._received and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._received = signum
        give_up_dead_terminal()
        note = f"\n{signal.Signals(signum).name}: training stops after this batch and a checkpoint.\n"
        with suppress(OSError):  # nobody may be there to read it
            os.write(2, note.encode())  # a handler may interrupt a print: buffered streams are not re-entrant

    def _end(self, trainer: Trainer) -> None:
        self._previous.clear()
        if self._limit_val_batches is not None:
            trainer.limit_val_batches, self._limit_val_batches = self._limit_val_batches, None
