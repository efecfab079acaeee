"""Parts of the reward, summed over episodes that span batches.

Axes: T steps, N environments, K finished episodes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.types import Rollout

_log = logging.getLogger("lit_rl")

ENV, TEAM_DISC, IND_DISC = "env", "team_disc", "ind_disc"
"""The reward of the environment, and what discriminators of team and agent skills add to it."""

TOLERANCE = 1e-5
"""Largest difference that float32 explains, relative to the sum of absolute rewards of the episode."""


def component_arrays(rollout: Rollout, components: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Components ``(T, N)`` as float64, zero where the environment only reset itself.

    Raises:
        ValueError: A component has another shape than the rollout.
    """
    shape = tuple(rollout["terminated"].shape)
    for name, values in components.items():
        if tuple(values.shape) != shape:
            raise ValueError(
                f"reward_components[{name!r}] must have the shape (T, N) = {shape} of the rollout, "
                f"got {tuple(values.shape)}; the learner sets it, average it over agents there"
            )
    stacked = torch.stack([values.detach() for values in components.values()]).cpu().double().numpy()
    if rollout["valid"] is not None:
        stacked *= rollout["valid"].cpu().numpy()
    return dict(zip(components, stacked, strict=True))


def environment_reward(rollout: Rollout) -> Tensor:
    """``(T, N)`` reward of the environment, the mean over agents where they are rewarded separately."""
    reward = rollout["reward"].double()
    return reward.mean(-1) if reward.ndim == 3 else reward


def episode_sums(values: np.ndarray, running: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum several quantities over the episodes that end within T steps, and over those that go on.

    Args:
        values: ``(quantities, T, N)``.
        running: ``(quantities, N)`` sums over the episodes that run before step 0.
        ends: ``(K,)`` int64, ``t * N + n`` of each episode end, ascending.

    Returns:
        ``(quantities, K)`` sums in the order of ``ends``, and the next ``running``, of shape
        ``(quantities, N)``.
    """
    total = values.cumsum(1) + running[:, None]  # since the start of the episode before step 0
    step, env = np.divmod(ends, values.shape[2])
    at_end = total[:, step, env]
    order = np.lexsort((step, env))  # each environment's ends side by side
    follows = env[order][1:] == env[order][:-1]
    before = np.zeros_like(at_end)
    before[:, order[1:][follows]] = at_end[:, order[:-1][follows]]
    ended = np.zeros_like(running)
    ended[:, env] = at_end  # of several ends in one environment the last stays
    return at_end - before, total[:, -1] - ended


class EpisodeComponents:
    """Sums of ``env``, ``team_disc`` and ``ind_disc`` over each training episode.

    Where ``env`` is given, its sum must be the return of the episode; otherwise that is warned of once and
    counted. Where it is not, the return of the episode takes its place.

    Attributes:
        mismatches: Episodes so far in which ``env`` was not the return.
    """

    def __init__(self) -> None:
        self.mismatches = 0
        self._running: np.ndarray | None = None  # (4, N): the three, and the absolute values of env

    def update(
        self, rollout: Rollout, arrays: Mapping[str, np.ndarray]
    ) -> tuple[list[float], list[float], list[float]]:
        """Add a batch.

        Args:
            rollout: The batch.
            arrays: What :func:`component_arrays` gave for it.

        Returns:
            The three sums of each of the K episodes that ended.
        """
        values = np.zeros((4, *rollout["terminated"].shape))
        for index, name in enumerate((ENV, TEAM_DISC, IND_DISC)):
            if name in arrays:
                values[index] = arrays[name]
        np.abs(values[0], out=values[3])
        running = np.zeros_like(values[:, 0]) if self._running is None else self._running
        running[:, rollout["reset"][0].cpu().numpy()] = 0.0  # also what a resume could not continue
        sums, self._running = episode_sums(values, running, rollout["final_index"].cpu().numpy())
        returns = rollout["episodes"]["episode_return"].cpu().numpy()
        if ENV in arrays:
            self._check(sums[0], returns, sums[3])
        else:
            sums[0] = returns
        env, team, individual, _ = sums.tolist()
        return env, team, individual

    def _check(self, env: np.ndarray, returns: np.ndarray, size: np.ndarray) -> None:
        differs = np.abs(env - returns) > TOLERANCE * np.maximum(1.0, size)
        if differs.any() and not self.mismatches:
            index = int(differs.argmax())
            _log.warning(
                "reward_components['env'] must sum to the return of the episode, %g, got %g; the learner "
                "must give the environment's reward as it came (more are counted: component_mismatches)",
                returns[index],
                env[index],
            )
        self.mismatches += int(differs.sum())

    def get_state(self) -> dict[str, Any]:
        """Sums of the running episodes and the count, as plain types."""
        running = None if self._running is None else self._running.tolist()
        return {"mismatches": self.mismatches, "running": running}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        self.mismatches = state["mismatches"]
        self._running = None if state["running"] is None else np.array(state["running"])
