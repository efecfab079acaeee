"""TensorBoard events of a run."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]  # generated


class Curves(TensorBoardLogger):
    """TensorBoard events only: ``config.yaml`` says more than Lightning's ``hparams.yaml``.

    All values of a batch are one event: written one by one they would cost more than the rest of the logging.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write ``metrics`` at the axis of env steps."""
        values = [Summary.Value(tag=name, simple_value=float(value)) for name, value in metrics.items()]
        self.experiment.file_writer.add_summary(Summary(value=values), step)  # pyright: ignore[reportOptionalMemberAccess]

    @rank_zero_only
    def save(self) -> None:
        """Write the events that are still buffered."""
        self.experiment.flush()
