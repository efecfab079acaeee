"""Settings of Lightning's Trainer with which learners work."""

from __future__ import annotations

from lightning.pytorch import Trainer

_PRECISIONS = ("32-true", "64-true", "bf16-mixed")
_SINGLE_COPY = ("SingleDeviceStrategy", "DDPStrategy")  # strategies in which each rank holds all parameters


def check_trainer(trainer: Trainer) -> None:
    """Refuse a trainer whose settings would make the updates of a policy wrong.

    Raises:
        ValueError: The strategy shards parameters, or weights would have half precision.
    """
    strategy = type(trainer.strategy).__name__
    if strategy not in _SINGLE_COPY:
        raise ValueError(
            f"trainer.strategy must keep all parameters on each rank (auto, ddp), got {strategy}"
        )
    precision = str(trainer.precision)
    if precision not in _PRECISIONS:
        raise ValueError(
            f"trainer.precision must be one of {', '.join(_PRECISIONS)}, got {precision}: "
            "half-precision weights make the probability ratio of a policy wrong"
        )
