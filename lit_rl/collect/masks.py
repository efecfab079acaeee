"""Action masks under which nothing is allowed: a policy could only choose something forbidden.

Axes: T steps, N environments, A agents, U action dimensions.
"""

from __future__ import annotations

import numpy as np

from lit_rl.types import ACTION_MASK, ALIVE, EnvSpec, NestedArray


def check_masks(
    spec: EnvSpec, obs: NestedArray, acts: np.ndarray | None, during: str, first_step: int = 0
) -> None:
    """Refuse observations whose action mask allows nothing where somebody acts.

    Args:
        spec: Spec of the environment.
        obs: Observations ``(T, N, ...)``.
        acts: ``(T, N)`` bool, False where no action follows; None: all environments act.
        during: Words for what the steps belong to, for the message.
        first_step: Number of the first step, for the message.

    Raises:
        ValueError: The message names environment, step and agent.
    """
    if not spec.has_action_mask:
        return
    starts = np.cumsum([0, *spec.action.categories[:-1]])
    none_TNU = ~np.logical_or.reduceat(obs[ACTION_MASK], starts, -1)  # with agents (T, N, A, U)
    if not none_TNU.any():
        return
    if acts is not None:
        none_TNU &= acts.reshape(*acts.shape, *[1] * (none_TNU.ndim - acts.ndim))
    if ALIVE in obs:
        none_TNU &= obs[ALIVE][..., None] > 0
    found = np.argwhere(none_TNU)
    if not len(found):
        return
    t, n, *agent, entry = found[0].tolist()
    who = f", agent {spec.agents[agent[0]]}" if agent else ""
    where = f", in entry {entry} of the action" if len(spec.action.categories) > 1 else ""
    raise ValueError(
        f"{spec.name}: {ACTION_MASK} allows no action at step {first_step + t} of {during}, environment {n}"
        f"{who}{where}; wherever somebody acts the environment must allow at least one choice"
    )
