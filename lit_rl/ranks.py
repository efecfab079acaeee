"""Python objects of all ranks, for the state that checkpoints keep; tensors are reduced by ``RLModule``."""

from __future__ import annotations

from typing import Any

import torch


def gather_over_ranks(value: Any, world_size: int) -> list[Any]:
    """``value`` of every rank, in the order of ranks; each rank must call it."""
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
