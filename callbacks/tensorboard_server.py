"""Runs a TensorBoard server for as long as the run is trained."""

from __future__ import annotations

import logging
import math
import threading
import time
from pathlib import Path
from typing import Annotated, Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl.arguments import Range, Timeout, check_arguments
from lit_rl.callbacks.companions.companion import Companion
from lit_rl.callbacks.trainer.attributes import is_dry_run

_log = logging.getLogger("lit_rl")

LOOK_INTERVAL_S = 0.2
"""Seconds between two looks for what the server says: a look costs more than most callbacks."""


class TensorBoardServer(Callback):
    """Shows the run in a browser while it is trained; the log says at which address.

    The server is a process of its own, started with the training and ended with it, also when the trainer is
    killed. It costs next to nothing until somebody looks: only then does it load TensorBoard, so the first
    page takes some seconds. Training never waits for it. If it cannot start, or is killed, that is said.

    Args:
        logdir: Folder whose event files are shown, with all folders in it. None takes the run directory;
            ``runs`` shows all runs.
        host: Address the server listens on. The default can be reached from this machine only.
        port: Port; the next free one of the 20 after it when it is taken.
        reload_interval_s: Seconds between two looks for new values.

    Raises:
        ValueError: ``port`` is not between 1 and 65535.
    """

    def __init__(
        self,
        logdir: str | None = None,
        host: str = "127.0.0.1",
        port: Annotated[int, Range(at_least=1, at_most=65_535)] = 6006,
        reload_interval_s: Timeout = 5.0,
    ) -> None:
        check_arguments(TensorBoardServer, locals())
        self.logdir = logdir
        self.host = host
        self.port = port
        self.reload_interval_s = reload_interval_s
        self.url: str | None = None
        self._companion: Companion | None = None
        self._is_over = False
        self._looked_at = -math.inf

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start the server."""
        if stage != "fit" or is_dry_run(trainer) or not trainer.is_global_zero:
            return
        options = {
            "logdir": self.logdir or trainer.default_root_dir,
            "window_title": "/".join(Path(trainer.default_root_dir).parts[-2:]),
            "host": self.host,
            "port": self.port,
            "reload_interval": self.reload_interval_s,
        }
        self.url, self._is_over = None, False
        try:
            self._companion = Companion("lit_rl.callbacks.companions.tensorboard_process")
            self._companion.channel.send(options)
        except OSError as error:
            self._warn(str(error))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where the server is, or that it is gone."""
        now = time.monotonic()
        if self._companion is not None and not self._is_over and now - self._looked_at >= LOOK_INTERVAL_S:
            self._looked_at = now
            self._look(self._companion)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """End the server."""
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the server."""
        self._end()

    def _look(self, companion: Companion) -> None:
        for kind, text in companion.channel.receive():
            if kind == "started":
                self.url = text
                _log.info("TensorBoard: %s", text)
            else:
                self._is_over = True
                self._warn(text)
        if not self._is_over and not companion.channel.is_open:
            self._is_over = True
            self._warn("its process was killed")

    def _warn(self, reason: str) -> None:
        where = f"port {self.port} of {self.host}"
        _log.warning("no TensorBoard server at %s: %s; training goes on without it", where, reason)

    def _end(self) -> None:
        if self._companion is not None:  # the end of a large process takes a moment, nobody waits for it
            threading.Thread(target=self._companion.kill, name="end of TensorBoard").start()
            self._companion = None
