"""Random subsets of critics for targets (Chen 2021, arXiv:2101.05982, algorithm 1).

Axes: M minibatches, C critics.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.ranks import Ranks


def draw_subsets(
    num_minibatches: int, num_critics: int, size: int, ranks: Ranks, device: torch.device
) -> Tensor:
    """Draw distinct critics for each minibatch, every subset with the same probability.

    All ranks take what rank 0 drew, so that their mean gradient is that of one large minibatch. They draw
    from torch's own stream, outside of compiled code, so that a resumed run draws the same ones.

    Args:
        num_minibatches: Number of minibatches M.
        num_critics: Number of critics C.
        size: How many of them to draw for each minibatch.
        ranks: The processes that train together.
        device: Device of the critics.

    Returns:
        Indices of the critics that were drawn, (M, size), int64.
    """
    subset_MC = torch.rand(num_minibatches, num_critics, device=device).argsort(1)[:, :size]
    return ranks.sum(subset_MC if ranks.index == 0 else torch.zeros_like(subset_MC))
