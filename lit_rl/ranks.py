"""The processes that train together, and what they agree on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Ranks:
    """The processes (ranks) of one training; a single one communicates nothing.

    Every rank must make the same calls in the same order. No call changes its argument.

    Args:
        size: Number of ranks.
        index: Which of them this process is.
    """

    def __init__(self, size: int = 1, index: int = 0) -> None:
        self.size, self.index = size, index

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of ``tensor`` over ranks; ``tensor`` itself when there is one rank."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean of ``tensor`` over ranks; ``tensor`` itself when there is one rank."""
        return tensor if self.size == 1 else self.sum(tensor).div_(self.size)

    def join(self, x_K: Tensor) -> Tensor:
        """``(K,)`` numbers of each rank as ``(size * K,)`` float64, in the order of ranks."""
        everyone = torch.zeros(self.size, len(x_K), dtype=torch.float64, device=x_K.device)
        everyone[self.index] = x_K
        return self.sum(everyone).flatten()

    def gather(self, value: Any) -> list[Any]:
        """``value`` of every rank, in the order of ranks."""
        return gather_over_ranks(value, self.size)


def gather_over_ranks(value: Any, world_size: int) -> list[Any]:
    """``value`` of every rank, in the order of ranks; each rank must call it."""
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
