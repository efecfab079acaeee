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
    """The checksum of a record: CRC-32C, rotated and shifted as TensorFlow does."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


# TensorBoard sums byte by byte in Python, in a thread that then holds back the training
record_writer.masked_crc32c = masked_crc32c


_KNOWN = 16
"""Sets of tags that are remembered."""


class Curves(TensorBoardLogger):
    """TensorBoard events only: ``config.yaml`` says more than Lightning's ``hparams.yaml``.

    All values of a batch are one event: written one by one they would cost more than the rest of the logging.
    Events are handed over once a second and at the end.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._summaries: dict[tuple[str, ...], Summary] = {}
        self._events: list[Event] = []
        self._written_at = time.monotonic()

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write ``metrics`` at the axis of env steps."""
        summary = self._summary_of(tuple(metrics))
        for entry, value in zip(summary.value, metrics.values(), strict=True):
            entry.simple_value = value
        self._events.append(Event(wall_time=time.time(), step=step, summary=summary))  # a copy
        if time.monotonic() - self._written_at > 1.0:
            self._write()

    def _write(self) -> None:
        """Hand over what is waiting: TensorBoard's writer is a thread, and waking it up costs, too."""
        events, self._events, self._written_at = self._events, [], time.monotonic()
        if events:
            writer = self.experiment.file_writer.event_writer  # pyright: ignore[reportOptionalMemberAccess]
            for event in events:
                writer.add_event(event)

    def _summary_of(self, names: tuple[str, ...]) -> Summary:
        """A message with these tags: most batches log the same ones, and tags cost more than values."""
        if names not in self._summaries:
            if len(self._summaries) >= _KNOWN:
                self._summaries.clear()
            self._summaries[names] = Summary(value=[Summary.Value(tag=name) for name in names])
        return self._summaries[names]

    @rank_zero_only
    def save(self) -> None:
        """Write the events that are still buffered."""
        self._write()
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is not written yet, and close the file."""
        self._write()
        super().finalize(status)
