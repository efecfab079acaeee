"""Random actions that an environment allows.

Axes: N environments, A agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.types import ACTION_MASK, ActionSpec, EnvSpec, NestedArray


def allowed_action(spec: EnvSpec, obs: NestedArray, chance: np.ndarray) -> np.ndarray:
    """Make actions from uniform random numbers; masks are respected.

    Args:
        spec: Spec with the action.
        obs: Observation, of which the action mask is read.
        chance: Numbers from 0 to 1, ``(N, [A,] entries)``.

    Returns:
        Actions ``(N, [A,] ...)``.
    """
    action = spec.action
    lead = chance.shape[:-1]
    if action.kind == "box":
        values = between(action, chance[..., : action.size])
        largest = np.finfo(np.float32).max
        return values.clip(-largest, largest).astype(np.float32).reshape(*lead, *action.shape)
    if spec.has_action_mask:
        parts = per_entry(obs[ACTION_MASK].astype(bool), action.categories)
    else:
        parts = [np.ones((*lead, choices), bool) for choices in action.categories]
    chosen = []
    for entry, allowed in enumerate(parts):
        rank = np.floor(chance[..., entry] * allowed.sum(-1))  # which one of the allowed choices
        chosen.append((allowed & (allowed.cumsum(-1) == rank[..., None] + 1)).argmax(-1))
    return np.stack(chosen, -1).reshape(*lead, *action.shape)


def random_action(
    space: Any, action: ActionSpec, mask: np.ndarray | None, generator: np.random.Generator
) -> Any:
    """Draw an action that an environment of one agent allows, in its own numbers.

    Args:
        space: Space of the action.
        action: Description of ``space``.
        mask: Which choices are allowed; None allows all.
        generator: Source of randomness.
    """
    if action.kind == "box":
        values = between(action, generator.random(action.size)).reshape(space.shape)
        return values.astype(space.dtype).clip(space.low, space.high)
    allowed = np.ones(sum(action.categories), bool) if mask is None else np.asarray(mask, bool)
    chosen = [generator.choice(np.flatnonzero(part)) for part in per_entry(allowed, action.categories)]
    return (np.reshape(chosen, space.shape) + getattr(space, "start", 0)).astype(space.dtype)[()]


def between(action: ActionSpec, chance: np.ndarray) -> np.ndarray:
    """Spread numbers from 0 to 1 over a box, float64; where it has no bound, a span of 2 stands for it.

    Args:
        action: Description of the box.
        chance: Numbers ``(..., entries)``.
    """
    low, high = np.array([action.low, action.high], np.float64)
    bounded_low = np.where(np.isfinite(low), low, np.where(np.isfinite(high), high - 2.0, -1.0))
    bounded_high = np.where(np.isfinite(high), high, bounded_low + 2.0)
    return bounded_low * (1.0 - chance) + bounded_high * chance  # a difference of bounds may overflow


def per_entry(mask: np.ndarray, categories: Sequence[int]) -> list[np.ndarray]:
    """Split a mask ``(..., choices)`` into those of the entries of a (multi-)discrete action."""
    return np.split(mask, np.cumsum(categories)[:-1], -1)
