"""Sums over the episodes that run in N environments, across the borders of rollouts.

Axes: T steps, N environments, A agents, K finished episodes.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lit_rl.types import EnvSpec, Episodes


def action_norms(action: np.ndarray, spec: EnvSpec) -> np.ndarray | None:
    """Return Euclidean norms ``(..., N)`` of actions ``(..., N, *shape)``; with agents the mean over them.

    It is None unless actions are boxes: the norm of a choice means nothing.
    """
    if spec.action.kind != "box":
        return None
    axes = tuple(range(action.ndim - len(spec.action.shape), action.ndim))
    norm = np.sqrt(np.square(action, dtype=np.float64).sum(axes))
    return norm.mean(-1) if spec.agents else norm


class RunningEpisodes:
    """Keeps the sums over the running episode of each environment.

    Args:
        num_envs: Number N of environments.
    """

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self._sums: dict[str, np.ndarray] = {}

    def restart(self) -> None:
        """Forget all running episodes: the environments were reset."""
        self._sums = {}

    def finish(
        self,
        reward: np.ndarray,
        valid: np.ndarray | None,
        final_index: np.ndarray,
        norm: np.ndarray | None = None,
        values: dict[str, np.ndarray] | None = None,
    ) -> Episodes:
        """Add T steps, and return statistics of the episodes that ended within them.

        Args:
            reward: ``(T, N)`` or ``(T, N, A)``, of which the mean over agents is summed.
            valid: ``(T, N)`` bool, False where the environment only reset itself; None: all are steps.
            final_index: ``(K,)``: ``t * N + n`` of each episode end, ascending.
            norm: Norms ``(T, N)`` of the actions, from :func:`action_norms`.
            values: ``(T, N)`` each; NaN where nothing was reported.
        """
        summed = reward.astype(np.float64)
        summed = summed.mean(-1) if summed.ndim == 3 else summed  # (T, N)
        steps = np.ones(summed.shape) if valid is None else valid.astype(np.float64)
        of_episode = lambda name, series: self._over_episodes(name, series, final_index)  # noqa: E731
        total = of_episode("return", summed * steps)
        length = of_episode("length", steps)
        if norm is None:
            action_norm = np.full(len(final_index), np.nan)
        else:
            action_norm = of_episode("action_norm", norm * steps) / length
        means, last = {}, {}
        for name, series in (values or {}).items():
            reported = np.isfinite(series) & (steps > 0)
            count = of_episode(f"count/{name}", reported.astype(np.float64))
            mean = of_episode(f"value/{name}", np.where(reported, series, 0.0))
            means[name] = torch.from_numpy(
                np.divide(mean, count, out=np.full_like(mean, np.nan), where=count > 0)
            )
            last[name] = torch.from_numpy(series.reshape(-1)[final_index].astype(np.float64))
        return {
            "episode_return": torch.from_numpy(total),
            "episode_length": torch.from_numpy(length.astype(np.int64)),
            "env_index": torch.from_numpy(final_index % self.num_envs),
            "end_step": torch.from_numpy((final_index // self.num_envs + 1) * self.num_envs),
            "action_norm": torch.from_numpy(action_norm),
            "values": means,
            "last_values": last,
        }

    def _over_episodes(self, name: str, series: np.ndarray, final_index: np.ndarray) -> np.ndarray:
        """Return sums ``(K,)`` of ``series`` ``(T, N)`` over the episodes that end, and keep the rest."""
        before = self._sums.get(name)
        total = np.cumsum(series, axis=0)
        if before is not None:
            total += before  # (T, N) since the start of the episode that ran when the batch began
        base = np.zeros(self.num_envs)
        ended = np.empty(len(final_index))
        for k, index in enumerate(final_index.tolist()):
            t, n = divmod(index, self.num_envs)
            ended[k] = total[t, n] - base[n]
            base[n] = total[t, n]
        self._sums[name] = total[-1] - base
        return ended

    def get_state(self) -> dict[str, Tensor]:
        """Return the sums, each ``(N,)``."""
        return {name: torch.from_numpy(value.copy()) for name, value in self._sums.items()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from sums that :meth:`get_state` returned."""
        self._sums = {name: value.numpy().copy() for name, value in state.items()}
