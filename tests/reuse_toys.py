"""Environments that return the same arrays at each step, also for worker processes."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from lit_rl.envs.vector import make_vector_env
from lit_rl.types import VectorEnv


class OneArray(gymnasium.Env):
    """Its observation goes from -1 to 3, the end, in steps of 1; array and info are the same for ever."""

    def __init__(self, nested: bool = False) -> None:
        box = spaces.Box(-10, 10, (1,), np.float32)
        self.observation_space = spaces.Dict(x=box, deep=spaces.Dict(y=box)) if nested else box
        self.action_space = spaces.Discrete(2)
        self.array, self.info = np.zeros(1, np.float32), dict[str, Any]()
        self.obs = {"x": self.array, "deep": {"y": self.array}} if nested else self.array

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.array[:] = -1
        self.info["seen"] = -1.0
        return self.obs, self.info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.array += 1
        self.info["seen"] = float(self.array[0])
        return self.obs, 0.0, False, self.array[0] == 3, self.info


class OneArrayTeam(ParallelEnv):
    """Two agents, each with such an array; their state is one array as well."""

    metadata = {"name": "one_array_v0"}  # noqa: RUF012

    def __init__(self) -> None:
        self.possible_agents = ["a", "b"]
        self.array = np.zeros((2, 1), np.float32)
        self.infos: dict[str, dict] = {"a": {}, "b": {}}

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-10, 10, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(2)

    def _see(self, value: Any) -> dict[str, Any]:
        self.array[:] = value
        for info in self.infos.values():
            info["seen"] = float(self.array[0, 0])
        return {"a": self.array[0], "b": self.array[1]}

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.agents = self.possible_agents[:]
        return self._see(-1), self.infos

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        seen = self._see(self.array + 1)
        is_over = bool(self.array[0, 0] == 3)
        self.agents = [] if is_over else self.agents
        no, over = {"a": False, "b": False}, {"a": is_over, "b": is_over}
        return seen, {"a": 0.0, "b": 0.0}, no, over, self.infos

    def state(self) -> np.ndarray:
        return self.array


def copies(num_envs: int, **kwargs: Any) -> VectorEnv:
    return make_vector_env(OneArray, num_envs, **({"record": ["seen"]} | kwargs))
