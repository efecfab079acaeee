"""The log of a batch: values are gathered until its end, and then written to every logger at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lit_rl.ranks import Ranks


class BatchLog:
    """Gathers the scalars that are logged for one batch, and writes them to the loggers as one row.

    One write per batch suffices, and a write costs more than all values in it. Loggers count in env steps.

    Attributes:
        points: Newest values of names that were logged at steps inside the batch.
    """

    def __init__(self) -> None:
        self._row: dict[str, float] | None = None  # None between two batches
        self.points: dict[str, float] = {}

    def begin(self, values: Mapping[str, float]) -> None:
        """Start the row of a batch with ``values``, scalars by their names."""
        self._row = dict(values)

    def add(self, values: Mapping[str, float], loggers: Iterable[Logger], env_steps: int) -> None:
        """Add ``values`` to the row; between two batches write them at once, at step ``env_steps``."""
        if self._row is not None:
            self._row.update(values)
            return
        for logger in loggers:
            logger.log_metrics(dict(values), step=env_steps)

    def add_point(self, values: Mapping[str, float], loggers: Iterable[Logger], env_steps: int) -> None:
        """Write ``values`` at a step inside the batch.

        A logger with ``is_row_per_batch`` gets only the newest of them, in its row.
        """
        self.points.update(values)
        for logger in loggers:
            if not getattr(logger, "is_row_per_batch", False):
                logger.log_metrics(dict(values), step=env_steps)

    def write(self, loggers: Iterable[Logger], env_steps: int) -> None:
        """Write the row, if there is one, at step ``env_steps``, and forget it."""
        row, points, self._row, self.points = self._row or {}, self.points, None, {}
        for logger in loggers:
            values = {**row, **points} if getattr(logger, "is_row_per_batch", False) else row
            if values:
                logger.log_metrics(values, step=env_steps)


def refuse_not_finite(values: Mapping[str, float], env_steps: int, policy_version: int) -> None:
    """Stop training when a loss is NaN or infinite, which no further update repairs.

    Args:
        values: Values that the update is about to log.
        env_steps: How long the policy was trained, for the message.
        policy_version: Number of batches trained on, for the message.

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
    totals: list[float],
    ranks: Ranks,
) -> tuple[dict[str, float], list[float]]:
    """Fetch scalars from the device with one host synchronisation.

    Args:
        values: Scalars, of which the mean over ranks is returned.
        totals: Numbers of this rank, of which the sum over ranks is returned.
        ranks: Every rank must call.
    """
    on_device = {name: value for name, value in values.items() if isinstance(value, Tensor)}
    means = torch.stack([value.detach() for value in on_device.values()])
    if ranks.size > 1:
        own = torch.cat([means.double() / ranks.size, means.new_tensor(totals, dtype=torch.float64)])
        joined = ranks.sum(own).tolist()
        averaged, totals = joined[: len(on_device)], joined[len(on_device) :]
    else:
        averaged = means.tolist()
    fetched = dict(zip(on_device, averaged, strict=True))
    return {name: float(fetched.get(name, value)) for name, value in values.items()}, totals
