"""Environments that go wrong after their trial: those seeded with 12, in step 20, in the way asked for."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from lightning.pytorch import Callback, LightningModule, Trainer
from pettingzoo import ParallelEnv

from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step

SEED, STEP = 12, 20
WRONG: dict[str, Any] = {
    "shape": {"x": np.zeros(3, np.float32)},
    "broadcast": {"x": np.zeros(1, np.float32)},
    "text": {"x": np.array(["a", "b"])},
    "category": {"kind": 7},
    "no integer": {"kind": 1.5},
    "flags": {"flags": np.array([0, 2, 1], np.int8)},
}
"""What stands at which key of the observation."""


class Late(gymnasium.Env):
    """Episodes of 11 steps; categories ``kind`` are 5, 6, and in the wrong way 7."""

    def __init__(self, how: str = "") -> None:
        self.observation_space = spaces.Dict(
            {
                "kind": spaces.Discrete(2, start=5),
                "x": spaces.Box(-1.0, 1.0, (2,)),
                "flags": spaces.MultiBinary(3),
            }
        )
        self.action_space = spaces.Discrete(2)
        self.how, self.is_bad, self.t = how, False, 0

    def _see(self) -> Any:
        obs: dict[str, Any] = {
            "kind": 5 + self.t % 2,
            "x": np.zeros(2, np.float32),
            "flags": np.array([0, 1, 0], np.int8),
        }
        if self.is_bad and self.t == STEP + 1:
            obs |= WRONG.get(self.how.removeprefix("last "), {})
            if self.how == "key":
                del obs["kind"]
        return obs

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.is_bad = self.is_bad if seed is None else seed == SEED
        if self.how == "reset" and self.is_bad and self.t == 11:
            return {"kind": 5}, {}
        self.t = 0 if seed is not None else self.t
        return self._see(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        is_now = self.is_bad and self.t == STEP + 1
        is_over = self.t % 11 == 0 or (is_now and self.how.startswith("last"))
        answer: list[Any] = [self._see(), 1.0, is_over, False, {}]
        if is_now and self.how == "reward":
            answer[1] = np.zeros(2)
        if is_now and self.how == "flag":
            answer[2] = np.zeros(2, bool)
        if is_now and self.how == "four":
            answer.pop()
        if is_now and self.how == "info":
            answer[4] = "text"
        if is_now and self.how == "exit":
            sys.exit(0)
        if is_now and self.how == "lenient":  # what is no fault: other floats, a list, integers, further keys
            answer[0] |= {"x": np.full(2, 9.5), "flags": [1, 0, 1], "more": "text"}
            answer[2] = 1
        return tuple(answer)


class LateTeam(ParallelEnv):
    """Two agents, of which b goes wrong; episodes of 11 steps."""

    metadata = {"name": "late_team"}  # noqa: RUF012

    def __init__(self, how: str = "", has_categories: bool = False, has_mask: bool = False) -> None:
        self.possible_agents = ["a", "b"]
        box, kinds = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2, start=5)
        self.space = kinds if has_categories else box
        self.how, self.has_mask, self.is_bad, self.t = how, has_mask, False, 0

    def observation_space(self, agent: str) -> spaces.Space:
        return self.space

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(2)

    def _all(self, value: Any) -> dict[str, Any]:
        return dict.fromkeys(self.possible_agents, value)

    def reset(self, seed: int | None = None, options: dict | None = None) -> Any:
        self.is_bad, self.agents = self.is_bad if seed is None else seed == SEED, self.possible_agents[:]
        self.t = 0 if seed is not None else self.t
        return self._see(), self._infos()

    def _see(self) -> dict[str, Any]:
        return self._all(5 if isinstance(self.space, spaces.Discrete) else np.zeros(2, np.float32))

    def _infos(self) -> dict[str, Any]:
        return self._all({"action_mask": np.ones(2, np.int8)} if self.has_mask else {})

    def step(self, actions: dict[str, Any]) -> Any:
        self.t += 1
        is_over = self.t % 11 == 0
        self.agents = [] if is_over else self.agents
        answer = [self._see(), self._all(0.0), self._all(False), self._all(is_over), self._infos()]
        if self.is_bad and self.t == STEP + 1:
            value = {**WRONG.get(self.how, {}), "kind": 7}
            if self.how in ("shape", "broadcast", "text", "category"):
                answer[0]["b"] = value["x"] if "x" in value else value["kind"]
            if self.how == "key":
                del answer[0]["b"]
            if self.how == "no reward":
                del answer[1]["b"]
            if self.how == "reward":
                answer[1]["b"] = np.zeros(2)
            if self.how == "nan":
                answer[1]["b"] = np.nan
            if self.how == "mask":
                answer[4]["b"] = {"action_mask": np.ones(1, np.int8)}
            if self.how == "four":
                answer.pop()
        return tuple(answer)


class LateBatch:
    """A native batch; row 12 - seed goes wrong."""

    def __init__(self, num_envs: int, how: str = "") -> None:
        self.num_envs, self.how = num_envs, how
        leaves: dict[str, Any] = {"kind": LeafSpec([], "int64", [2], [5]), "x": LeafSpec([2])}
        self.spec = EnvSpec("late batch", leaves, ActionSpec("discrete", categories=[2]))

    def _see(self, rows: int) -> dict[str, Any]:
        return {"kind": np.full(rows, self.t % 2), "x": np.zeros((rows, 2), np.float32)}

    def reset(self, seed: int) -> Any:
        self.row, self.t = SEED - seed, 0
        return self._see(self.num_envs)

    def step(self, action: np.ndarray) -> Step:
        self.t += 1
        obs, num = self._see(self.num_envs), self.num_envs
        never, ended = np.zeros((2, num), bool)
        ended[:] = self.t % 11 == 0
        final = self._see(num) if ended.any() else None
        step = Step(obs, np.zeros(num, np.float32), never, ended, final, None, {})
        if self.t != STEP + 1 or not 0 <= self.row < num:
            return step
        if self.how == "category":
            obs["kind"][self.row] = 2
        if self.how == "negative":
            obs["kind"][self.row] = -1
        if self.how == "key":
            del obs["x"]
        if self.how == "broadcast":
            obs["x"] = obs["x"][:1]
        if self.how == "dtype":
            obs["x"] = obs["x"].astype(np.float64)
        if self.how == "list":
            obs["x"] = obs["x"].tolist()
        if self.how == "reward":
            step = step._replace(reward=step.reward[:, None])
        if self.how == "flags":
            step = step._replace(terminated=never.astype(np.int64))
        if self.how == "last":
            step = step._replace(truncated=~never)
        if self.how == "last shape":
            step = step._replace(truncated=~never, final_obs=self._see(num) | {"x": obs["x"][:, :1]})
        return step

    def get_state(self) -> None:
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        raise AssertionError("it has no state")

    def close(self) -> None:
        pass


class Exits(Callback):
    """Ends the process when training starts."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        sys.exit()
