"""The processes that train together, how they agree on numbers, and how they draw different random ones.

Axes: K finished episodes.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.seeds import derive


class Ranks:
    """The processes (ranks) of one training; a single one communicates nothing.

    Every rank must make the same calls in the same order. No call changes its argument.

    Args:
        size: Number of ranks.
        index: Number of this process among them, from 0.
    """

    def __init__(self, size: int = 1, index: int = 0) -> None:
        self.size, self.index = size, index

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum ``tensor`` over ranks; return ``tensor`` itself when there is one rank."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        torch.distributed.all_reduce(total)
        return total

    def mean(self, tensor: Tensor) -> Tensor:
        """Average ``tensor`` over ranks; return ``tensor`` itself when there is one rank."""
        return tensor if self.size == 1 else self.sum(tensor).div_(self.size)

    def join(self, x_K: Tensor) -> Tensor:
        """Join the ``(K,)`` numbers of all ranks to ``(size * K,)`` float64, in the order of ranks."""
        everyone = torch.zeros(self.size, len(x_K), dtype=torch.float64, device=x_K.device)
        everyone[self.index] = x_K
        return self.sum(everyone).flatten()

    def gather(self, value: Any) -> list[Any]:
        """Return the ``value`` of every rank, in the order of ranks."""
        return gather_over_ranks(value, self.size)

    def part_random_streams(self) -> None:
        """Give each rank random numbers of its own; networks must have their initial weights by then."""
        if self.size > 1:
            seed = derive(torch.initial_seed(), "rank", self.index)
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002  # libraries of users draw from it
            random.seed(seed)


def gather_over_ranks(value: Any, world_size: int) -> list[Any]:
    """Return the ``value`` of every rank, in the order of ranks; each rank must call it."""
    if world_size == 1:
        return [value]
    gathered: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(gathered, value)
    return gathered
