"""A check that a rollout is what the policy being trained did: its log-probabilities are computed again."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def audit(
    replayed: Tensor, recorded: Tensor, weight: Tensor | None, tolerance: float | None, level: str
) -> Tensor:
    """Return the largest difference of log-probabilities, relative to those whose size is above 1.

    Args:
        replayed: Log-probabilities that the learner computed before its first epoch.
        recorded: Log-probabilities from the moment of the choice, of the same shape.
        weight: 0 for choices that do not count, of the same shape; None counts all.
        tolerance: The largest difference that rounding explains; None accepts any.
        level: Name of the network that chose, for the message.

    Raises:
        RuntimeError: A difference exceeds ``tolerance``.
    """
    difference = (replayed - recorded).abs() / recorded.abs().clamp(min=1)
    if weight is not None:
        difference = difference.masked_fill(weight == 0, 0.0)
    error = difference.amax()
    if tolerance is not None and not error.item() <= tolerance:
        raise RuntimeError(
            f"replayed log-probabilities of {level} differ from the collected ones by {error.item():.3g} "
            f"(at most {tolerance:g}): the batch was not collected by the policy that is trained, or that "
            "policy draws random numbers when it is evaluated; replay_tolerance decides"
        )
    return error
