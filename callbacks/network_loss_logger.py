"""Records every loss of a run in a process of its own, with statistics and figures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl.arguments import Seconds, Steps, check_arguments
from lit_rl.callbacks.recorder.classify import classify
from lit_rl.callbacks.recorder.client import Recorder, start_recorder
from lit_rl.callbacks.recorder.directory import leave_pointer
from lit_rl.callbacks.recorder.settings import (
    DEFAULT_NETWORKS,
    QUEUE_SIZE,
    UPDATE_INTERVAL_S,
    Settings,
)
from lit_rl.callbacks.trainer.attributes import is_dry_run
from lit_rl.loss_log import LOG_DIR
from lit_rl.metrics import (
    COORDINATOR_POLICY,
    COORDINATOR_TOTAL,
    COORDINATOR_VALUE,
    DISCRIMINATOR_TOTAL,
    LOSS_CRITIC,
    LOSS_POLICY,
    LOSS_TEMPERATURE,
    LOSS_TOTAL,
    LOSS_VALUE,
)
from lit_rl.types import Learner, as_learner

_log = logging.getLogger("lit_rl")

_PREFIX = "loss/"
_NAMES = {
    LOSS_POLICY: "actor_loss",
    LOSS_VALUE: "critic_loss",
    LOSS_CRITIC: "critic_loss",
    LOSS_TEMPERATURE: "temperature_loss",
    LOSS_TOTAL: "total_loss",
}
_PARTS = {
    COORDINATOR_TOTAL: ("attention", "attention_loss"),
    COORDINATOR_POLICY: ("attention", "policy_loss"),
    COORDINATOR_VALUE: ("attention", "value_loss"),
    DISCRIMINATOR_TOTAL: ("discriminator", "discriminator_loss"),
}
"""Network and name of what parts of HMASD report; its skill discoverer is PPO."""
_LEARNERS = ("ppo", "sac", "hmasd")
_LOW_LEVEL = {"hmasd": "ppo"}


class NetworkLossLogger(Callback):
    """Hands the losses of each batch to a recorder process that appends, summarises and draws them.

    Into ``<log_dir>/<experiment_name>_loss_log/`` it writes

    - ``<network>_losses.csv``: step, timestamp, source and one column per loss; only ever appended to. A new
      loss opens ``<network>_losses.1.csv``.
    - ``<network>_stats.json``: count, mean, spread, extremes, median, NaN and infinities, trend of each loss.
    - ``network_loss_curves_realtime.png``, and a copy ``network_loss_curves_<YYYYMMDD_HH>.png`` per hour.
    - ``config.json``: settings, and which networks are recorded or missing, with the reason.
    - ``recorder.json``: state (running, finished, producer_lost), heartbeat, rows offered, written, dropped
      and invalid.

    The network of the learner (``ppo``, ``sac``) gets ``actor_loss``, ``critic_loss`` and
    ``temperature_loss``; ``total`` the scalar that is back-propagated, ``total_loss``. Of HMASD the skill
    discoverer is ``ppo``, the skill coordinator ``attention``, and there is ``discriminator``. The encoder
    that ``Predictor`` trains alone is ``attention`` or ``gnn``, with ``attention_loss`` or ``gnn_loss``. A
    network without a loss of its own has no file and is missing: nothing is made up. The step is
    ``env_steps``. The losses of a batch that ends training because they are not finite are recorded too.

    A directory of another run is never used: the name gets a suffix ``-2``, ``-3`` and so on. A resumed run
    goes on in its own. Rows beyond its checkpoint stay in the files, but ``resumes`` in ``config.json`` marks
    them as replaced, and statistics, figure and ``lit_rl.callbacks.recorder.reader`` leave them out.

    Nothing here waits for the recorder but the end of training, until all rows are on disk (5 s at most).
    Only the first rank records; ``fast_dev_run`` writes nothing.

    Args:
        experiment_name: Name without slashes. None takes the name of the folder of the run directory, which
            is that of its configuration.
        log_dir: Folder of the loss logs. None is ``network_loss_logs`` in the run directory; elsewhere, a
            file ``network_loss_logs/location.txt`` in the run directory says where.
        networks: Networks to expect: one without a loss is listed as missing. Others are recorded as well.
        update_interval: Seconds between two figures. More costs the machine less.
        queue_size: Rows that may wait in the trainer; more are dropped and counted.

    Raises:
        MisconfigurationException: An argument is outside its range.
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(
        self,
        experiment_name: str | None = None,
        log_dir: str | None = None,
        networks: Sequence[str] = DEFAULT_NETWORKS,
        update_interval: Seconds = UPDATE_INTERVAL_S,
        queue_size: Steps = QUEUE_SIZE,
    ) -> None:
        check_arguments(NetworkLossLogger, locals())
        self.experiment_name = experiment_name
        self.log_dir = log_dir
        self.networks = tuple(name.lower() for name in networks)
        self.update_interval = update_interval
        self.queue_size = queue_size
        self._recorder: Recorder | None = None
        self._recorded: object = None
        self._algorithm = ""
        self._homes: dict[str, tuple[str, str]] = {}
        try:
            self._settings(experiment_name or "run", LOG_DIR)
        except ValueError as error:
            raise MisconfigurationException(f"NetworkLossLogger: {error}") from error

    @property
    def directory(self) -> Path | None:
        """Directory of the losses of this run; None before training, and when none could be made."""
        return None if self._recorder is None else self._recorder.directory

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "NetworkLossLogger")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the recorder."""
        self._recorder = None
        if not trainer.is_global_zero or is_dry_run(trainer):
            return
        run = Path(trainer.default_root_dir).absolute()
        log_dir = Path(self.log_dir).absolute() if self.log_dir is not None else run / LOG_DIR
        self._algorithm = _algorithm(pl_module)
        self._homes = {}
        self._recorded = self._learner.progress_metrics
        settings = self._settings(
            self.experiment_name or run.parent.name or "run",
            str(log_dir),
            missing=_reasons(self._algorithm),
            step_unit="env steps",
            algorithm=self._algorithm,
            run_directory=str(run),
            resume_step=self._learner.env_steps if trainer.ckpt_path else None,
        )
        self._recorder = start_recorder(settings)
        if self._recorder.directory is not None and not log_dir.is_relative_to(run):
            try:
                leave_pointer(run, self._recorder.directory)
            except OSError as error:
                _log.warning("NetworkLossLogger: no pointer in %s: %s", run / LOG_DIR, error.strerror)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Record the losses of the batch."""
        self._record()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait until all rows are on disk."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record the losses of a batch that was not finished, if they exist: they may be the reason."""
        self._record()
        self._close()

    def _settings(self, experiment_name: str, log_dir: str, **kwargs: Any) -> Settings:
        return Settings(
            experiment_name,
            log_dir,
            self.networks,
            update_interval=self.update_interval,
            queue_size=self.queue_size,
            **kwargs,
        )

    def _record(self) -> None:
        """Hand over what the learner measured since the last call."""
        if self._recorder is None or self._learner.progress_metrics is self._recorded:
            return
        metrics = self._learner.progress_metrics
        self._recorded = metrics
        rows: dict[str, dict[str, float]] = {}
        for name, value in metrics.items():
            if name.startswith(_PREFIX) or name in _PARTS:
                network, loss = self._homes.get(name) or self._find_home(name)
                rows.setdefault(network, {})[loss] = value
        for network, losses in rows.items():
            self._recorder.record(network, self._learner.env_steps, losses)

    def _find_home(self, name: str) -> tuple[str, str]:
        """Network and name under which a loss is recorded."""
        loss = _NAMES.get(name) or f"{name.removeprefix(_PREFIX)}_loss"
        learner = _LOW_LEVEL.get(self._algorithm, self._algorithm)
        self._homes[name] = home = _PARTS.get(name) or (classify(name, learner), loss)
        return home

    def _close(self) -> None:
        if self._recorder is not None:
            self._recorder.close()


def _algorithm(pl_module: LightningModule) -> str:
    """``ppo`` or ``sac``, also for classes derived from these; else the name of the class."""
    names = [cls.__name__.lower() for cls in type(pl_module).__mro__]
    return next((name for name in names if name in _LEARNERS), names[0])


def _reasons(algorithm: str) -> dict[str, str]:
    """Why networks have no loss of their own under this learner."""
    learner = algorithm.upper()
    encoder = f"{learner} trains an encoder through its own losses; this network has none"
    if algorithm == "predictor":
        encoder = "the encoder that Predictor trains is of another kind"
    reasons = {name: f"the learner is {learner}" for name in ("ppo", "sac") if name != algorithm}
    reasons |= {"attention": encoder, "gnn": encoder, "total": f"{learner} reports no {LOSS_TOTAL}"}
    if algorithm == "sac":
        reasons["total"] = "SAC back-propagates its losses one by one, there is no total"
    return reasons
