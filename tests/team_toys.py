"""Tiny native environments of several agents with a global state, and agents that leave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step
from tests.toys import MatchingPair


class Team(MatchingPair):
    """``MatchingPair`` with the global state [left's bit, right's bit, t / length].

    Args:
        num_envs: N.
        team: One reward for both.
        length: Steps per episode.
        leaves_after: Steps after which ``right`` leaves; it then sees zeros and earns nothing of its own.
    """

    def __init__(
        self, num_envs: int, team: bool = False, length: int = 4, leaves_after: int | None = None
    ) -> None:
        super().__init__(num_envs, team, length)
        self.leaves_after = leaves_after
        leaves = {"observation": LeafSpec([3])} | ({"alive": LeafSpec([])} if leaves_after else {})
        self.spec = replace(self.spec, observation=leaves, state=3)

    def reset(self, seed: int) -> dict[str, np.ndarray]:  # type: ignore[override]
        return self._dict(super().reset(seed), self.t)

    def step(self, action: np.ndarray) -> Step:
        t = self.t + 1
        step = super().step(action)
        if self.leaves_after and not self.team:
            step.reward[t > self.leaves_after, 1] = 0
        final = None if step.final_obs is None else self._dict(step.final_obs, t[step.truncated])
        return step._replace(obs=self._dict(step.obs, self.t), final_obs=final)

    def _dict(self, observation: Any, t: np.ndarray) -> dict[str, np.ndarray]:
        bits, clock = observation[:, 0, :2], (t / self.length)[:, None]
        obs = {"observation": observation, "state": np.concatenate([bits, clock], -1).astype(np.float32)}
        if self.leaves_after:
            alive = np.ones(observation.shape[:2], np.float32)
            alive[:, 1] = t < self.leaves_after
            obs |= {"observation": observation * alive[..., None], "alive": alive}
        return obs


class Roles:
    """Both agents see a constant; left must choose 0 and right 1. Episodes of one step."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        agents = ["left", "right"]
        self.spec = EnvSpec("Roles", LeafSpec([1]), ActionSpec("discrete", categories=[2]), agents)

    def reset(self, seed: int) -> np.ndarray:
        return np.ones((self.num_envs, 2, 1), np.float32)

    def step(self, action: np.ndarray) -> Step:
        reward = (action == [0, 1]).mean(-1).astype(np.float32)
        over, obs = np.ones(self.num_envs, bool), self.reset(0)
        return Step(obs, reward, over, ~over, obs.copy(), None, {})

    def get_state(self) -> dict[str, Any] | None:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass
