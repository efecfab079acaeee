"""Saves checkpoints between batches: the last, the best, and one every so many env steps."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from lit_rl.files import unfinished
from lit_rl.metrics import EVAL_RETURN

_log = logging.getLogger("lit_rl")

LAST, BEST, INTERRUPTED = "last.ckpt", "best.ckpt", "interrupted.ckpt"


class RolloutCheckpoint(Checkpoint):
    """Saves into ``<default_root_dir>/checkpoints``, each file complete or not there at all.

    - ``last.ckpt``: every ``every_batches`` batches, at the end of training, and when a signal stops it.
      Training resumed from it goes on exactly where it stopped.
    - ``best.ckpt``: after each validation with a new best value. It holds no replay ring.
    - ``step_<env_steps>.ckpt``: each time ``every_env_steps`` more are done.
    - ``interrupted.ckpt``: after an exception in a run of one process, if it can still be saved.

    Lightning's ``ModelCheckpoint`` skips saves under manual optimization. Being a ``Checkpoint``, this
    callback runs after all others, and Lightning adds none of its own. A save that falls on the last batch of
    an epoch waits for the validation, because resuming at that batch would skip it.

    Args:
        every_batches: Batches between two ``last.ckpt``. Fewer lose less when the machine dies and cost more
            time.
        every_env_steps: Env steps between two ``step_*.ckpt``; None saves none.
        monitor: Logged value that decides what is best.
        mode: Whether more or less of it is better.
        save_best: Whether to keep ``best.ckpt``.
        keep_periodic: How many ``step_*.ckpt`` to keep, the newest; None keeps all.

    Raises:
        MisconfigurationException: If a number is not positive, or the validation did not log ``monitor``.
    """

    def __init__(
        self,
        every_batches: int = 100,
        every_env_steps: int | None = None,
        monitor: str = EVAL_RETURN,
        mode: Literal["max", "min"] = "max",
        save_best: bool = True,
        keep_periodic: int | None = None,
    ) -> None:
        super().__init__()
        given = {
            "every_batches": every_batches,
            "every_env_steps": every_env_steps,
            "keep_periodic": keep_periodic,
        }
        for name, value in given.items():
            if value is not None and value <= 0:
                raise MisconfigurationException(f"RolloutCheckpoint: {name} must be positive, got {value}.")
        self.every_batches = every_batches
        self.every_env_steps = every_env_steps
        self.monitor = monitor
        self.mode = mode
        self.save_best = save_best
        self.keep_periodic = keep_periodic
        self.best_value: float | None = None
        self.best_model_path = ""
        self._env_steps = 0  # of the checkpoint being written
        self._periods = 0  # multiples of every_env_steps behind us
        self._has_trained = False
        self._due: list[str] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget a best value whose file is elsewhere, as after resuming into another directory."""
        best = _directory(trainer) / BEST
        if best.exists() and self.best_value is not None:
            self.best_model_path = str(best)
        else:
            self.best_value, self.best_model_path = None, ""
        self._periods = self._count_periods(pl_module)
        self._has_trained = False
        self._due = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save what is due, unless the epoch's validation comes first."""
        self._has_trained = True
        stopping = _is_stopped_by_signal(trainer)
        if stopping or int(pl_module.policy_version) % self.every_batches == 0:  # pyright: ignore[reportArgumentType]
            self._due.append(LAST)
        if self._count_periods(pl_module) > self._periods:
            self._periods = self._count_periods(pl_module)
            self._due.append(f"step_{pl_module.env_steps}.ckpt")
        if stopping or not trainer.is_last_batch:
            self._save_due(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what the last batch of the epoch made due."""
        self._save_due(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save ``best.ckpt`` if the monitored value is the best so far."""
        if not self.save_best or trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise MisconfigurationException(
                f"RolloutCheckpoint watches {self.monitor!r}, but the validation logged "
                f"{sorted(trainer.callback_metrics)}: change monitor, or set save_best to false."
            )
        value = float(trainer.callback_metrics[self.monitor])
        if trainer.strategy.broadcast(self._is_best(value)):
            self.best_value = value
            self.best_model_path = str(_directory(trainer) / BEST)
            with _without_replay(trainer):
                self._save(trainer, BEST)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final state; a run stopped by a signal was saved right after its last batch."""
        if self._has_trained and not _is_stopped_by_signal(trainer):
            self._save(trainer, LAST)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save what there is, under its own name: the batch may be half trained."""
        if trainer.world_size > 1 or not self._has_trained or trainer.state.fn != TrainerFn.FITTING:
            return
        try:
            self._save(trainer, INTERRUPTED)
        except Exception as error:  # the first exception is the one to report
            _log.warning("%s could not be saved: %s: %s", INTERRUPTED, type(error).__name__, error)

    def state_dict(self) -> dict[str, Any]:
        """The best value so far, and the env steps of this checkpoint."""
        return {"best_value": self.best_value, "env_steps": self._env_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.best_value = state_dict["best_value"]

    def _count_periods(self, pl_module: LightningModule) -> int:
        return int(pl_module.env_steps) // self.every_env_steps if self.every_env_steps else 0  # pyright: ignore[reportArgumentType]

    def _is_best(self, value: float) -> bool:
        if math.isnan(value) or self.best_value is None:
            return not math.isnan(value)
        return value > self.best_value if self.mode == "max" else value < self.best_value

    def _save_due(self, trainer: Trainer) -> None:
        due, self._due = self._due, []
        for name in due:
            self._save(trainer, name)

    def _save(self, trainer: Trainer, name: str) -> None:
        """Write ``name`` beside its old version, then exchange the two. Called on every rank."""
        if trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            return
        path = _directory(trainer) / name
        beside = unfinished(path)
        self._env_steps = int(trainer.lightning_module.env_steps)  # pyright: ignore[reportArgumentType]
        write_row = getattr(trainer.lightning_module, "write_row", None)
        if write_row is not None:
            write_row()
        for logger in trainer.loggers:
            logger.save()  # a run that is killed later keeps its curves up to this checkpoint
        try:
            trainer.save_checkpoint(beside, weights_only=False)  # the whole state, not only weights
            if trainer.is_global_zero:
                beside.replace(path)
                if name.startswith("step_"):
                    self._drop_old(path.parent)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        trainer.strategy.barrier(f"RolloutCheckpoint {name}")

    def _drop_old(self, directory: Path) -> None:
        periodic = sorted(
            directory.glob("step_*.ckpt"), key=lambda path: int(path.stem.removeprefix("step_"))
        )
        for path in periodic[: -self.keep_periodic] if self.keep_periodic else []:
            path.unlink()


def _directory(trainer: Trainer) -> Path:
    return Path(trainer.default_root_dir) / "checkpoints"


def _is_stopped_by_signal(trainer: Trainer) -> bool:
    """Whether ``GracefulStop`` (known by its attribute only) ends this run."""
    return any(getattr(callback, "exit_code", None) is not None for callback in trainer.callbacks)  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def _without_replay(trainer: Trainer) -> Iterator[None]:
    """Let the data module leave its replay ring out of its state, if it has one."""
    datamodule = trainer.datamodule  # pyright: ignore[reportAttributeAccessIssue]
    if not hasattr(datamodule, "save_replay"):
        yield
        return
    before, datamodule.save_replay = datamodule.save_replay, False
    try:
        yield
    finally:
        datamodule.save_replay = before
