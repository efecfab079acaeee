"""Whether a signal asks the training run to stop: data modules wait for nothing then."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Trainer


def is_asked_to_stop(trainer: Trainer | None) -> bool:
    """Tell whether a signal came, which ``GracefulStop`` obeys after the batch or evaluation under way."""
    return any(getattr(callback, "is_asked_to_stop", False) for callback in _callbacks(trainer))


def exit_code(trainer: Trainer | None) -> int | None:
    """Return the exit code of a signal that stopped training; None where none did."""
    codes = (getattr(callback, "exit_code", None) for callback in _callbacks(trainer))
    return next((code for code in codes if code is not None), None)


def _callbacks(trainer: Trainer | None) -> Any:
    return getattr(trainer, "callbacks", ())
