"""Attributes that Lightning gives the trainer at run time, typed, and what other callbacks say by them."""

from __future__ import annotations

from typing import Any, Protocol

from lightning.pytorch import Callback, LightningDataModule, Trainer

from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.graceful_stop import GracefulStop


class _Attributes(Protocol):
    """Every ``Trainer`` has these after its ``__init__``, though its class does not declare them."""

    fast_dev_run: bool | int
    callbacks: list[Callback]
    datamodule: LightningDataModule | None


def _attributes(trainer: Any) -> _Attributes:
    return trainer


def is_dry_run(trainer: Trainer) -> bool:
    """Tell whether this is a run of a few batches that leaves no files (``fast_dev_run``)."""
    return bool(_attributes(trainer).fast_dev_run)


def data_module(trainer: Trainer) -> LightningDataModule | None:
    """Data module that the batches come from; None when the trainer was given plain dataloaders."""
    return _attributes(trainer).datamodule


def total_env_steps(trainer: Trainer) -> int | None:
    """Env steps after which ``EnvStepBudget`` or ``max_steps`` ends this run; None without either."""
    callbacks = _attributes(trainer).callbacks
    limits = [callback.total_env_steps for callback in callbacks if isinstance(callback, EnvStepBudget)]
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps)
    return min(limits, default=None)


def exit_code_of_signal(trainer: Trainer) -> int | None:
    """Exit code with which ``GracefulStop`` ends this run after a signal; None when no signal came."""
    stops = (callback for callback in _attributes(trainer).callbacks if isinstance(callback, GracefulStop))
    return next((stop.exit_code for stop in stops if stop.exit_code is not None), None)
