"""TensorBoard events of a run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import google_crc32c
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]  # generated
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]  # generated
from tensorboard.summary.writer import record_writer


def masked_crc32c(data: bytes) -> int:
    """Compute the checksum of a record: CRC-32C, rotated and shifted as TensorFlow does."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# TensorBoard sums byte by byte in Python, in a thread that then holds back the training
record_writer.masked_crc32c = masked_crc32c


class Curves(TensorBoardLogger):
    """TensorBoard events only: ``config.yaml`` says more than Lightning's ``hparams.yaml``.

    All values of a batch are one event. Events are made once a second and at the end, many in a row: one by
    one, between two batches, each would cost several times as much.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: list[tuple[float, int | None, dict[str, float]]] = []
        self._written_at = time.monotonic()

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: hyper-parameters are in ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write ``metrics`` at the axis of env steps."""
        self._waiting.append((time.time(), step, dict(metrics)))
        if time.monotonic() - self._written_at > 1.0:
            self._write()

    def _write(self) -> None:
        waiting, self._waiting, self._written_at = self._waiting, [], time.monotonic()
        if waiting:
            writer = self.experiment.file_writer.event_writer  # pyright: ignore[reportOptionalMemberAccess]
            for wall_time, step, metrics in waiting:
                values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
                writer.add_event(Event(wall_time=wall_time, step=step, summary=Summary(value=values)))

    @rank_zero_only
    def save(self) -> None:
        """Write what is waiting."""
        self._write()
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is waiting, and close the file."""
        self._write()
        super().finalize(status)
