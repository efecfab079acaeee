"""Records the run in Weights & Biases."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from lit_rl.arguments import Timeout, check_arguments, plain
from lit_rl.callbacks.companions.companion import Companion
from lit_rl.callbacks.trainer.attributes import exit_code_of_signal, is_dry_run
from lit_rl.checks import is_plain
from lit_rl.processes import Message

_log = logging.getLogger("lit_rl")

DELAY_S = 10.0
PUSH_INTERVAL_S = 0.25
"""Rows are handed over so often; a trainer that is killed loses the rows of the last such time."""


class WandbRun(Callback):
    """Records everything that is logged as a run of Weights & Biases (W&B).

    ``wandb`` runs in a process of its own: importing it and starting a run take seconds, and it changes
    environment variables and ``sys.exit`` of its process. So a run that is live in the trainer's process
    (``wandb.run``) is left alone. Rows are handed over without waiting; should that process be slower than
    training for long, rows are dropped, and both the first and the total are reported. When the trainer is
    killed, the run ends as failed, with all rows it had.

    Rows carry the axis ``env_steps``. ``actor/*`` is drawn over ``actor/total_steps``, and ``sac/*``,
    ``learner/*`` and ``timer/*`` over ``learner/update_steps``. Values become floats; NaN and infinity stay.
    ``config.yaml`` and ``versions.json`` of the run directory become the run's configuration; without them
    the hyper-parameters of the module do.

    Offline nothing is sent anywhere: ``wandb sync RUN/wandb/offline-run-*`` uploads the run later. Training
    that goes on from a checkpoint writes a second such directory with the same id, and ``wandb sync`` merges
    the two by it.

    A fault of W&B (no permission, no disk, no account) is a warning; training goes on without it.

    Args:
        project: Project of the run.
        name: Name of the run. None takes the last two folders of the run directory, as in
            ``ppo_cartpole/20260131-120000-seed0``.
        group: Runs of one group are shown together, as the actor and the learner of one training.
        job_type: Role within the group, such as ``actor`` or ``learner``.
        tags: Tags.
        notes: A longer description.
        entity: User or team that owns the project. None takes the default of the account.
        id: Identity of the run within the project. None draws one, and keeps it when the training goes on.
        mode: ``offline`` only writes files into the run directory, ``online`` also uploads them (the account
            is that of ``wandb login``), ``disabled`` starts and writes nothing; so does
            ``WANDB_MODE=disabled`` in the environment, which ``lit-rl --debug`` sets.
        start_delay_s: ``wandb`` is loaded, and the run started, so many seconds after training began, or at
            its end; until then its process only keeps the rows. Loading takes a core, which a short run
            feels. None is 10 offline and 0 online.
        finish_timeout_s: After the training, a thread gives W&B so many seconds for the last rows, and online
            for their upload. What was not uploaded stays on disk, for ``wandb sync``.
    """

    def __init__(
        self,
        project: str = "lit_rl",
        name: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: list[str] | None = None,
        notes: str | None = None,
        entity: str | None = None,
        id: str | None = None,
        mode: Literal["online", "offline", "disabled"] = "offline",
        start_delay_s: Timeout | None = None,
        finish_timeout_s: Timeout = 30.0,
    ) -> None:
        check_arguments(WandbRun, locals())
        self.name = name
        self.mode = mode = "disabled" if os.environ.get("WANDB_MODE") == "disabled" else mode
        self.finish_timeout_s = finish_timeout_s
        self._options: dict[str, Any] = {
            "start_delay_s": start_delay_s if start_delay_s is not None else DELAY_S * (mode == "offline"),
            "project": project,
            "group": group,
            "job_type": job_type,
            "tags": tags,
            "notes": notes,
            "entity": entity,
            "id": id,
            "mode": mode,
        }
        self._rows: WandbRows | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the run, and add its logger to those of the trainer."""
        if self.mode == "disabled" or is_dry_run(trainer) or not trainer.is_global_zero:
            return
        directory = Path(trainer.default_root_dir).absolute()
        given = plain(pl_module.hparams)
        options = {
            **self._options,
            "dir": str(directory),
            "name": self.name or "/".join(directory.parts[-2:]),
            "hyper_parameters": {key: value for key, value in given.items() if is_plain(value)},
            "is_resumed": trainer.ckpt_path is not None,
            "finish_timeout_s": self.finish_timeout_s,
        }
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._rows = WandbRows(directory, options)
        except OSError as error:
            _log.warning("W&B is off, it could not be started: %s; training goes on without it", error)
            return
        trainer.loggers = [*trainer.loggers, self._rows]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say where the run is, once it has started."""
        if self._rows is not None:
            self._rows.look()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Let the run end, with the status of the signal that stopped training, if one did."""
        self._finish(trainer, exit_code_of_signal(trainer) or 0)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """End the run as failed, and wait for that: a run directory without results may be removed next."""
        self._finish(trainer, 1)
        self.wait()

    def wait(self) -> None:
        """Wait until the run has ended and its files are complete, as the end of the program does."""
        if self._rows is not None:
            self._rows.wait()

    def _finish(self, trainer: Trainer, exit_code: int) -> None:
        if self._rows in trainer.loggers:
            trainer.loggers = [logger for logger in trainer.loggers if logger is not self._rows]
            self._rows.finish(exit_code, self.finish_timeout_s + 5.0)  # a little more than wandb is given


class WandbRows(Logger):
    """The logger that hands rows over to the process of :mod:`lit_rl.callbacks.companions.wandb_process`.

    Args:
        directory: The run directory.
        options: What that process must know to start the run.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self, directory: Path, options: dict[str, Any]) -> None:
        super().__init__()
        self._directory = directory
        self._companion = Companion("lit_rl.callbacks.companions.wandb_process", PUSH_INTERVAL_S)
        self._is_on, self._is_started, self._has_warned = True, False, False
        self._offered = 0
        self._looked_at = -math.inf
        self._thread: threading.Thread | None = None
        self._send("start", options)

    @property
    def name(self) -> str:
        """No name: the run directory belongs to one run."""
        return ""

    @property
    def version(self) -> str:
        """No version: the run directory belongs to one run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._directory)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing, because the run was started with the hyper-parameters."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Record one row. W&B drops rows whose ``step`` falls, so the axis is one of its values."""
        self._offered += 1
        self._send("row", step, {name: float(value) for name, value in metrics.items()})
        if self._companion.channel.refused == 1 and not self._has_warned:
            self._has_warned = True
            _log.warning("W&B: from row %d on rows are dropped, wandb is slower than training", self._offered)

    def look(self) -> None:
        """Report that the run has started, or why it could not; costs next to nothing afterwards."""
        now = time.monotonic()
        if self._is_on and not self._is_started and now - self._looked_at >= PUSH_INTERVAL_S:
            self._looked_at = now
            self._hear(self._companion.channel.receive())

    def finish(self, exit_code: int, timeout_s: float) -> None:
        """Deliver all rows and end the run with ``exit_code``, in a thread, within ``timeout_s`` seconds."""
        self._send("finish", exit_code)
        if self._is_on:
            self._is_on = False
            self._thread = threading.Thread(target=self._finish, args=(timeout_s,), name="end of the W&B run")
            self._thread.start()

    def wait(self) -> None:
        """Wait until the run has ended."""
        if self._thread is not None:
            self._thread.join()

    def _finish(self, timeout_s: float) -> None:
        said = self._companion.finish(timeout_s)
        self._hear(said)
        refused = self._companion.channel.refused
        if refused:
            share = f"{refused} of {self._offered}"
            _log.warning("W&B: %s rows were dropped, wandb was slower than training", share)
        if {"finished", "failed"}.isdisjoint(kind for kind, _ in said):
            _log.warning("W&B: its process did not confirm the end of the run; the last rows may be missing")

    def _send(self, kind: str, value: Message, row: Mapping[str, float] | None = None) -> None:
        if self._is_on:
            try:
                self._companion.channel.send((kind, value), row, is_vital=row is None)
            except OSError:
                self._hear(self._companion.channel.receive())
                if self._is_on:
                    self._turn_off("its process was killed")

    def _hear(self, said: list[Message]) -> None:
        for kind, text in said:
            if kind == "started":
                self._is_started = True
                _log.info("W&B: %s", text)
            elif kind == "failed":
                self._turn_off(text)

    def _turn_off(self, reason: str) -> None:
        _log.warning("W&B is off from here on (%s); training goes on without it", reason)
        self._is_on = False
        self._companion.kill()
