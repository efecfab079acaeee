"""Is a rollout what the policy being trained did? Its log-probabilities, computed again, must agree."""

from __future__ import annotations

import torch
from torch import Tensor


@torch.no_grad()
def audit(
    replayed: Tensor, recorded: Tensor, weight: Tensor | None, tolerance: float | None, level: str
) -> Tensor:
    """Largest difference of log-probabilities, relative to those above 1.

    Args:
        replayed: Computed by the learner, before its first epoch.
        recorded: Computed when the choice was made, same shape.
        weight: 0 where no choice counts, same shape; None: all count.
        tolerance: The largest difference that rounding explains; None only tells it.
        level: What chose, for the message.

    Raises:
        RuntimeError: They differ by more.
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
