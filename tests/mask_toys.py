"""Environments whose action masks allow nothing at some step, also for worker processes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from tests.parallel_toys import Leavers


class Forbids(gymnasium.Env):
    """Nothing is allowed at step ``at`` if seeded with ``bad_seed``, nor ever after the last of 4 steps."""

    def __init__(self, at: int = 2, bad_seed: int = 1, entries: tuple[int, ...] = (3,)) -> None:
        self.at, self.bad_seed, self.entries, self.is_bad = at, bad_seed, entries, False
        leaves = {"x": spaces.Box(-9, 9, (1,)), "action_mask": spaces.Box(0, 1, (sum(entries),), np.int8)}
        self.observation_space = spaces.Dict(leaves)
        self.action_space = spaces.Discrete(*entries) if len(entries) == 1 else spaces.MultiDiscrete(entries)

    def _obs(self) -> dict[str, Any]:
        mask = np.ones(sum(self.entries), np.int8)
        if self.is_bad and self.t == self.at:
            mask[-self.entries[-1] :] = 0
        return {"x": np.full(1, self.t, np.float32), "action_mask": mask * (self.t < 4)}

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, Any], dict]:
        super().reset(seed=seed)
        self.is_bad = self.is_bad if seed is None else seed == self.bad_seed
        self.t = 0
        return self._obs(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict]:
        self.t += 1
        return self._obs(), 1.0, False, self.t == 4, {}


class ForbidsB(Leavers):
    """Nothing is allowed to agent b at step 1."""

    def __init__(self) -> None:
        super().__init__(masks="observation")

    def _see(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        obs, infos = super()._see(agents)
        if self.t == 1:
            obs["b"]["action_mask"][:] = 0
        return obs, infos
