"""Checkpoints written where they are wanted, not through the system's folder for temporary files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO


class DirectCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint straight into its file, which must be put in place afterwards.

    Lightning's own makes a copy in memory, and a second one in the system's folder for temporary files, which
    a killed process leaves there. A link at the path is replaced, not followed.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``, and make missing folders."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        with target.open("xb") as file:  # a file of Python's: of torch's own a full disk is no OSError
            torch.save(checkpoint, file)


def write_directly(trainer: Trainer) -> None:
    """Let ``trainer`` save by :class:`DirectCheckpointIO`, unless a plugin or its strategy saves."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = DirectCheckpointIO()
