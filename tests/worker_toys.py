"""Environments that tests run in worker processes; this file imports nothing slow."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step
from tests.parallel_toys import Leavers


class Uneven(Leavers):
    """Episodes of 2 to 4 steps, as the number drawn at reset says."""

    metadata = {"name": "uneven_v0"}  # noqa: RUF012

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        answer = super().reset(seed)
        self.last = dict.fromkeys(self.possible_agents, 2 + int(self.number) % 3)
        return answer


class Saves(Uneven):
    """Can say where it is."""

    def get_state(self) -> dict[str, Any]:
        return {"t": self.t, "number": self.number, "random": self.rng.bit_generator.state}

    def set_state(self, state: dict[str, Any]) -> None:
        self.reset(0)
        self.t, self.number = state["t"], float(state["number"])
        self.last = dict.fromkeys(self.possible_agents, 2 + int(self.number) % 3)
        self.rng.bit_generator.state = state["random"]


class Fails(Leavers):
    """The environment that is seeded with ``seed`` fails at its second step, in one way or another."""

    def __init__(self, seed: int, how: str = "") -> None:
        super().__init__()
        self.bad_seed, self.how, self.is_bad = seed, how, False

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.is_bad = self.is_bad if seed is None else seed == self.bad_seed
        return super().reset(seed)

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        if self.is_bad and self.t == 1:
            self.fail()
        return super().step(actions)

    def fail(self) -> None:
        if self.how == "hang":
            time.sleep(600)
        if self.how == "leave":
            os._exit(3)
        if self.how == "exit":
            sys.exit("enough")
        if self.how == "value":
            raise ValueError("leavers_v0: a bad value")
        raise ZeroDivisionError("division by zero")


class GlobalNoise(Leavers):
    """Draws from the global generator of numpy."""

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        super().reset(seed)
        self.number = float(np.random.random())  # noqa: NPY002
        return self._see(self.agents)


class Clocks:
    """A native batch with next-step resets: clock i ends after 2 + i steps, and shows (seed + i, steps)."""

    def __init__(self, num_envs: int, wrong: int = 0) -> None:
        self.num_envs = num_envs + wrong
        leaves: dict[str, Any] = {"seed": LeafSpec([], "int64"), "deep": {"steps": LeafSpec([1])}}
        self.spec = EnvSpec("clocks", leaves, ActionSpec("box", [2], low=[-1.0, -1.0], high=[1.0, 1.0]))

    def _obs(self) -> dict[str, Any]:
        return {"seed": self.seeds.copy(), "deep": {"steps": self.steps[:, None].astype(np.float32)}}

    def reset(self, seed: int) -> dict[str, Any]:
        self.seeds = np.arange(seed, seed + self.num_envs)
        self.steps = np.zeros(self.num_envs, np.int64)
        self.ended = np.zeros(self.num_envs, bool)
        return self._obs()

    def step(self, action: np.ndarray) -> Step:
        valid = ~self.ended
        self.steps = np.where(valid, self.steps + 1, 0)
        self.ended = valid & (self.steps == 2 + self.seeds % 3)
        obs = self._obs()
        final = {"seed": obs["seed"][self.ended], "deep": {"steps": obs["deep"]["steps"][self.ended]}}
        some = self.ended.any()
        reward = (action.sum(1) * valid).astype(np.float32)
        return Step(obs, reward, self.ended.copy(), ~valid & False, final if some else None, valid, {})

    def get_state(self) -> dict[str, Any]:
        return {"seeds": self.seeds.tolist(), "steps": self.steps.tolist(), "ended": self.ended.tolist()}

    def set_state(self, state: dict[str, Any]) -> None:
        self.seeds, self.steps = np.array(state["seeds"]), np.array(state["steps"])
        self.ended = np.array(state["ended"], bool)

    def close(self) -> None:
        pass


class Deadly(Clocks):
    """Kills its own process when it is made anew, which its seed tells."""

    def reset(self, seed: int) -> dict[str, Any]:
        if seed > 1_000_000:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed)


class Steps(gymnasium.Env):
    """Episodes of 5 steps of an environment with one agent, which shows how many of them are done."""

    observation_space = spaces.Box(0.0, 10.0, (1,))
    action_space: spaces.Space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.t = self.done = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.array([self.t], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t, self.done = self.t + 1, self.done + 1
        return np.array([self.t], np.float32), 1.0, False, self.t == 5, {}


class HangsAt(Steps):
    """Hangs in its step number ``at``."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.at = at

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.done == self.at:
            time.sleep(600)
        return super().step(action)


class SignalsItself(Steps):
    """Sends its own process a signal when it is made."""

    def __init__(self, signum: int) -> None:
        super().__init__()
        os.kill(os.getpid(), signum)


class StuckInC(Steps):
    """Waits for ever in a function of C when it is made, where no handler of Python can run."""

    def __init__(self, ready: str) -> None:
        super().__init__()
        lock, libc = ctypes.create_string_buffer(128), ctypes.CDLL(None)
        libc.pthread_mutex_lock(lock)
        Path(ready).touch()
        libc.pthread_mutex_lock(lock)


class FailsInRank1(Steps):
    """Cannot be made in rank 1, and takes a minute in the others."""

    def __init__(self) -> None:
        super().__init__()
        if os.environ.get("LOCAL_RANK", "0") == "1":
            raise ValueError("the licence is taken")
        time.sleep(60)


class Forks(Steps):
    """Starts a process that ends by ``terminate``, as simulators do, and waits for its end in ``close``."""

    def __init__(self) -> None:
        super().__init__()
        self.child = os.fork()
        if not self.child:
            time.sleep(600)
            os._exit(0)

    def close(self) -> None:
        os.kill(self.child, signal.SIGTERM)
        os.waitpid(self.child, 0)
