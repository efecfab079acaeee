"""Random actions that an environment allows.

Axes: N environments, A agents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lit_rl.types import ACTION_MASK, EnvSpec, NestedArray


def allowed_action(spec: EnvSpec, obs: NestedArray, chance: np.ndarray) -> np.ndarray:
    """Make actions from uniform random numbers; masks are respected.

    Args:
        spec: Spec with the action. Where a box has no bound, -1 or 1 stands for it.
        obs: Observation, of which the action mask is read.
        chance: Numbers from 0 to 1, ``(N, [A,] entries)``.

    Returns:
        Actions ``(N, [A,] ...)``.
    """
    action = spec.action
    lead = chance.shape[:-1]
    if action.kind == "box":
        low, high = (np.nan_to_num(bound, posinf=1.0, neginf=-1.0) for bound in (action.low, action.high))
        values = low + (high - low) * chance[..., : action.size]
        return values.astype(np.float32).reshape(*lead, *action.shape)
    if spec.has_action_mask:
        parts = per_entry(obs[ACTION_MASK].astype(bool), action.categories)
    else:
        parts = [np.ones((*lead, choices), bool) for choices in action.categories]
    chosen = []
    for entry, allowed in enumerate(parts):
        rank = np.floor(chance[..., entry] * allowed.sum(-1))  # which one of the allowed choices
        chosen.append((allowed & (allowed.cumsum(-1) == rank[..., None] + 1)).argmax(-1))
    return np.stack(chosen, -1).reshape(*lead, *action.shape)


def per_entry(mask: np.ndarray, categories: Sequence[int]) -> list[np.ndarray]:
    """Split a mask ``(..., choices)`` into those of the entries of a (multi-)discrete action."""
    return np.split(mask, np.cumsum(categories)[:-1], -1)
