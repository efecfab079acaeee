"""What a batch has to say, gathered until its end and then written to every logger at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lit_rl.ranks import Ranks


class BatchLog:
    """One row per batch: every write costs more than all its values.

    Args of the methods are name and value of scalars; the axis of all loggers is env steps.
    """

    def __init__(self) -> None:
        self._row: dict[str, float] | None = None  # of the batch that ends just now
        self._points: dict[str, float] = {}  # the last ones inside it

    def begin(self, values: Mapping[str, float]) -> None:
        """Start the row of a batch."""
        self._row = dict(values)

    def add(self, values: Mapping[str, float], loggers: Iterable[Logger], env_steps: int) -> None:
        """Add to the row; outside of a batch write at once."""
        if self._row is not None:
            self._row.update(values)
            return
        for logger in loggers:
            logger.log_metrics(dict(values), step=env_steps)

    def add_point(self, values: Mapping[str, float], loggers: Iterable[Logger], env_steps: int) -> None:
        """Write at a step inside the batch; a logger of one row per batch gets the last ones in its row."""
        self._points.update(values)
        for logger in loggers:
            if not getattr(logger, "is_row_per_batch", False):
                logger.log_metrics(dict(values), step=env_steps)

    def write(self, loggers: Iterable[Logger], env_steps: int) -> None:
        """Write the row, if there is one, and forget it."""
        row, points, self._row, self._points = self._row or {}, self._points, None, {}
        for logger in loggers:
            values = {**row, **points} if getattr(logger, "is_row_per_batch", False) else row
            if values:
                logger.log_metrics(values, step=env_steps)


def refuse_not_finite(values: Mapping[str, float], env_steps: int, policy_version: int) -> None:
    """Stop training on a loss that no update repairs.

    Raises:
        FloatingPointError: A value is not finite.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{name} became {value} in the update after {env_steps} env steps (policy version "
                f"{policy_version}); lower the learning rate, or check the environment's rewards"
            )


def fetch(
    values: Mapping[str, Tensor | float],
    counts: list[float],
    ranks: Ranks,
) -> tuple[dict[str, float], list[float]]:
    """All scalars with one host synchronisation: ``values`` as means over ranks, ``counts`` as sums."""
    on_device = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    means = torch.stack([value.detach() for value in on_device.values()])
    if ranks.size > 1:
        own = torch.cat([means.double() / ranks.size, means.new_tensor(counts, dtype=torch.float64)])
        joined = ranks.sum(own).tolist()
        averaged, counts = joined[: len(on_device)], joined[len(on_device) :]
    else:
        averaged = means.tolist()
    fetched = dict(zip(on_device, averaged, strict=True))
    return {name: float(fetched.get(name, value)) for name, value in values.items()}, counts
