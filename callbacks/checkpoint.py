"""Saves checkpoints between batches: the last, the best, and one every so many env steps."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import AsyncCheckpointIO
from lightning.pytorch.trainer.states import TrainerFn

from lit_rl.arguments import Count, check_arguments
from lit_rl.callbacks.trainer.attributes import data_module, exit_code_of_signal, is_dry_run
from lit_rl.callbacks.trainer.checkpoint_io import write_directly
from lit_rl.files import keep_as, unfinished
from lit_rl.metrics import EVAL_RETURN
from lit_rl.types import Learner, as_learner

_log = logging.getLogger("lit_rl")

LAST, BEST, INTERRUPTED = "last.ckpt", "best.ckpt", "interrupted.ckpt"


class RolloutCheckpoint(Checkpoint):
    """Saves into ``<default_root_dir>/checkpoints``, each file complete or not there at all.

    - ``last.ckpt``: every ``every_batches`` batches, at the end of training, and when a signal stops it.
      Training resumed from it goes on exactly where it stopped.
    - ``best.ckpt``: after each validation with a new best value. It holds no replay ring.
    - ``step_<env_steps>.ckpt``: each time ``every_env_steps`` more are done.
    - ``interrupted.ckpt``: after an exception in a run of one process, if it can still be saved.

    With ``models`` the same files have a second name (a hard link, so that they take no more room) in
    ``<default_root_dir>/models``: ``<models>.pt`` is the best, ``<models>_final.pt`` what training ended with
    (not written when a signal or an exception ended it), and ``<models>_<env_steps>.pt`` the periodic ones.
    There ``env_steps`` is the multiple of ``every_env_steps`` that was passed, a name known beforehand: with
    1,024 env steps per batch ``step_320512.ckpt`` is also ``<models>_320000.pt``. Where ``models`` ends in
    ``.pth``, so do all of these.

    Being a ``Checkpoint``, this callback runs after all others, and Lightning adds none of its own. A save
    that falls on the last batch of an epoch waits for the validation, because resuming at that batch would
    skip it. Where nothing is evaluated (``limit_val_batches`` is 0), what is best is decided at the end of
    each epoch, by a value of training.

    Args:
        every_batches: Batches between two ``last.ckpt``. Fewer lose less when the machine dies and cost more
            time.
        every_env_steps: Env steps between two ``step_*.ckpt``; None saves none.
        monitor: Logged value that decides what is best.
        mode: Whether more or less of it is better.
        save_best: Whether to keep ``best.ckpt``.
        keep_periodic: How many ``step_*.ckpt`` to keep, the newest; None keeps all. Holds for their second
            names, too.
        models: How the second names begin, and, after a ``.pt`` or ``.pth``, how they end; None gives none.

    Raises:
        MisconfigurationException: A number is not positive, ``models`` is no file name, a plugin of the
            trainer saves in the background, or an evaluation did not log the ``eval/...`` to ``monitor``.
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(
        self,
        every_batches: Count = 100,
        every_env_steps: Count | None = None,
        monitor: str = EVAL_RETURN,
        mode: Literal["max", "min"] = "max",
        save_best: bool = True,
        keep_periodic: Count | None = None,
        models: str | None = None,
    ) -> None:
        check_arguments(RolloutCheckpoint, locals())
        super().__init__()
        stem, ending = _split_name(models or "")
        if models is not None and (not stem or Path(models).name != models):
            raise MisconfigurationException(
                f"RolloutCheckpoint: models must be the beginning of file names, no folder, got {models!r}"
            )
        self.every_batches = every_batches
        self.every_env_steps = every_env_steps
        self.monitor = monitor
        self.mode = mode
        self.save_best = save_best
        self.keep_periodic = keep_periodic
        self.models = models
        self._model_stem, self._model_ending = stem, ending
        self.best_value: float | None = None
        self.best_model_path = ""
        self._periods = 0  # multiples of every_env_steps behind us
        self._has_trained = False
        self._due: list[str] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner, and a plugin that would write files later."""
        self._learner = as_learner(pl_module, "RolloutCheckpoint")
        if isinstance(trainer.strategy.checkpoint_io, AsyncCheckpointIO):
            raise MisconfigurationException(
                "RolloutCheckpoint gives a checkpoint its name once it is complete, which AsyncCheckpointIO "
                "does not tell; leave that plugin out."
            )
        write_directly(trainer)
        if self.save_best and not trainer.enable_validation and self.monitor.startswith("eval/"):
            _log.info("best.ckpt is not kept: nothing is evaluated (limit_val_batches is 0)")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget a best value whose file is elsewhere, as after resuming into another directory."""
        best = _directory(trainer) / BEST
        if best.exists() and self.best_value is not None:
            self.best_model_path = str(best)
            self._keep_model(trainer, best, "")
        else:
            self.best_value, self.best_model_path = None, ""
        self._periods = self._count_periods()
        self._has_trained = False
        self._due, self._saved = [], -1

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due, unless the epoch's validation comes first."""
        self._has_trained = True
        stopping = _is_stopped_by_signal(trainer)
        if stopping or self._learner.policy_version % self.every_batches == 0:
            self._due.append(LAST)
        if self._count_periods() > self._periods:
            self._periods = self._count_periods()
            self._due.append(f"step_{self._learner.env_steps}.ckpt")
        if stopping or not trainer.is_last_batch:
            self._save_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the last batch made due; where nothing is evaluated, decide here what is best.

        An epoch that a signal ended while it waited for experience is saved here.
        """
        if (
            _is_stopped_by_signal(trainer)
            and self._has_trained
            and self._saved != self._learner.policy_version
        ):
            self._due.append(LAST)
        self._save_due(trainer)
        if not trainer.enable_validation:
            self._save_if_best(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save ``best.ckpt`` if the monitored value is the best so far.

        Raises:
            MisconfigurationException: The evaluation did not log what is to be watched.
        """
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if _is_stopped_by_signal(trainer) and self._learner.eval_result is None:
            return  # the evaluation was broken off
        is_missing = self.save_best and self.monitor not in trainer.callback_metrics
        if is_missing and self.monitor.startswith("eval/"):
            raise MisconfigurationException(
                f"RolloutCheckpoint watches {self.monitor!r}, but the evaluation logged "
                f"{', '.join(sorted(trainer.callback_metrics))}: change monitor, or set save_best to false."
            )
        self._save_if_best(trainer)

    def _save_if_best(self, trainer: Trainer) -> None:
        if not self.save_best or self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        if trainer.strategy.broadcast(self._is_best(value)):
            self.best_value = value
            self.best_model_path = str(_directory(trainer) / BEST)
            with _without_replay(trainer):
                self._save(trainer, BEST)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final state; a run stopped by a signal was saved right after its last batch."""
        if _is_stopped_by_signal(trainer):
            return
        if self._has_trained:
            self._save(trainer, LAST)
            self._keep_model(trainer, _directory(trainer) / LAST, "_final")
        elif trainer.ckpt_path is not None:  # its budget was spent: it ends with what it was resumed from
            self._keep_model(trainer, Path(trainer.ckpt_path), "_final")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what there is, under its own name: the batch may be half trained."""
        if trainer.world_size > 1 or not self._has_trained or trainer.state.fn != TrainerFn.FITTING:
            return
        try:
            self._save(trainer, INTERRUPTED)
        except Exception as error:  # the first exception is the one to report
            _log.warning("%s could not be saved: %s: %s", INTERRUPTED, type(error).__name__, error)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far."""
        return {"best_value": self.best_value}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.best_value = state_dict["best_value"]

    def _count_periods(self) -> int:
        return self._learner.env_steps // self.every_env_steps if self.every_env_steps else 0

    def _is_best(self, value: float) -> bool:
        if math.isnan(value) or self.best_value is None:
            return not math.isnan(value)
        return value > self.best_value if self.mode == "max" else value < self.best_value

    def _save_due(self, trainer: Trainer) -> None:
        due, self._due = self._due, []
        for name in due:
            self._save(trainer, name)
            self._saved = self._learner.policy_version

    def _save(self, trainer: Trainer, name: str) -> None:
        """Write ``name`` beside its old version, then exchange the two. Called on every rank."""
        if is_dry_run(trainer):
            return
        path = _directory(trainer) / name
        beside = unfinished(path)
        try:
            trainer.save_checkpoint(beside, weights_only=False)  # the whole state, not only weights
            if trainer.is_global_zero:
                beside.replace(path)
                if name == BEST:
                    self._keep_model(trainer, path, "")
                if name.startswith("step_") and self.every_env_steps:
                    passed = self._periods * self.every_env_steps
                    self._keep_model(trainer, path, f"_{passed}")
                    self._drop_old(trainer)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
        trainer.strategy.barrier(f"RolloutCheckpoint {name}")

    def _keep_model(self, trainer: Trainer, path: Path, suffix: str) -> None:
        """Give a checkpoint its second name."""
        if self.models is not None and trainer.is_global_zero and not is_dry_run(trainer):
            keep_as(path, _models(trainer) / f"{self._model_stem}{suffix}{self._model_ending}")

    def _drop_old(self, trainer: Trainer) -> None:
        """Remove all periodic files but the newest."""
        _keep_newest(_directory(trainer), r"step_(\d+)\.ckpt", self.keep_periodic)
        if self.models is not None:
            stem, ending = re.escape(self._model_stem), re.escape(self._model_ending)
            _keep_newest(_models(trainer), rf"{stem}_(\d+){ending}", self.keep_periodic)


def _split_name(models: str) -> tuple[str, str]:
    """Split a name of models into how the files begin and how they end: ``.pt`` unless it says ``.pth``."""
    stem, dot, ending = models.rpartition(".")
    return (stem, dot + ending) if ending in ("pt", "pth") and dot else (models, ".pt")


def _directory(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"


def _models(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "models"


def _keep_newest(directory: Path, pattern: str, number: int | None) -> None:
    """Keep the newest ``number`` files whose names match, with env steps as group 1; None keeps all."""
    found = [(match, path) for path in directory.iterdir() if (match := re.fullmatch(pattern, path.name))]
    newest_first = sorted(found, key=lambda item: -int(item[0][1]))
    for _, path in newest_first[number:] if number else []:
        path.unlink()


def _is_stopped_by_signal(trainer: Trainer) -> bool:
    return exit_code_of_signal(trainer) is not None


@runtime_checkable
class _KeepsReplay(Protocol):
    """A data module with a replay ring, which it saves or leaves out."""

    save_replay: bool


@contextmanager
def _without_replay(trainer: Trainer) -> Iterator[None]:
    """Let the data module leave its replay ring out of its state, if it has one."""
    source: object = data_module(trainer)
    if not isinstance(source, _KeepsReplay):
        yield
        return
    before, source.save_replay = source.save_replay, False
    try:
        yield
    finally:
        source.save_replay = before
