"""Env-steps per second of environments in this process and in worker processes.

``python tests/benchmarks/bench_workers.py`` steps N copies of a team of three that computes for a given
time per step (one core, no sleeping), for several such times, of ``mpe2``'s simple_spread where that is
installed, and of ids of Gymnasium, these also in ``AsyncVectorEnv``, its own processes. One env step is a
step of one copy, with all its agents. Rounds alternate, so that a change of the machine hits all of them;
printed are medians, slowest and fastest rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import gymnasium
import machine
import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.workers.vector import WorkerVectorEnv
from lit_rl.processes import allowed_cores
from lit_rl.types import VectorEnv

SPREAD = "mpe2.simple_spread_v3.parallel_env"


class Busy(ParallelEnv):
    """Three agents that see 18 numbers; a step computes for ``step_s`` seconds of processor time."""

    metadata = {"name": "busy"}  # noqa: RUF012

    def __init__(self, step_s: float) -> None:
        self.possible_agents = ["a", "b", "c"]
        self.step_s = step_s

    def observation_space(self, agent: str) -> spaces.Space:
        return spaces.Box(-1.0, 1.0, (18,), np.float32)

    def action_space(self, agent: str) -> spaces.Space:
        return spaces.Discrete(5)

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.t, self.agents = 0, self.possible_agents[:]
        return self._see(), {agent: {} for agent in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        end = time.process_time() + self.step_s
        while time.process_time() < end:
            pass
        self.t += 1
        is_over, names = self.t == 25, self.possible_agents
        self.agents = [] if is_over else self.agents
        ends = dict.fromkeys(names, is_over)
        rewards, infos = dict.fromkeys(names, 0.0), {agent: {} for agent in names}
        return self._see(), rewards, dict.fromkeys(names, False), ends, infos

    def _see(self) -> dict[str, np.ndarray]:
        return {agent: np.zeros(18, np.float32) for agent in self.possible_agents}


def speeds(envs: list[Any], seconds: float, rounds: int) -> list[list[float]]:
    """Env-steps per second, one list of rounds for each of ``envs``."""
    for env in envs:
        env.reset(0)
        env.step(_zeros(env))  # the first one sets up the shared memory
    measured: list[list[float]] = [[] for _ in envs]
    for _ in range(rounds):
        for env, result in zip(envs, measured, strict=True):
            action, num_steps, start = _zeros(env), 0, time.perf_counter()
            while time.perf_counter() - start < seconds:
                env.step(action)
                num_steps += 1
            result.append(num_steps * env.num_envs / (time.perf_counter() - start))
    return measured


def _zeros(env: VectorEnv) -> np.ndarray:
    agents, action = [len(env.spec.agents)] if env.spec.agents else [], env.spec.action
    return np.zeros((env.num_envs, *agents, *action.shape), np.float32 if action.kind == "box" else np.int64)


class OfGymnasium:
    """Gymnasium's own processes, one for each environment, with nothing around them."""

    def __init__(self, env_id: str, num_envs: int) -> None:
        self.num_envs, self.spec = num_envs, make_vector_env(env_id, 1).spec
        self._envs = gymnasium.make_vec(env_id, num_envs, vectorization_mode="async")

    def reset(self, seed: int) -> None:
        self._envs.reset(seed=seed)

    def step(self, action: np.ndarray) -> None:
        self._envs.step(action)

    def close(self) -> None:
        self._envs.close()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--num_envs", type=int, default=16)
    parser.add_argument("--num_workers", type=int, nargs="+", default=[allowed_cores()])
    parser.add_argument("--step_ms", type=float, nargs="+", default=[0.0, 0.1, 1.0, 10.0])
    parser.add_argument("--ids", nargs="*", default=["CartPole-v1", "HalfCheetah-v5"], help="of Gymnasium")
    parser.add_argument("--seconds", type=float, default=2.0, help="per round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cases: dict[str, Callable[[int], VectorEnv]] = {
        f"busy for {ms:g} ms": partial(ParallelVectorEnv, partial(Busy, ms / 1000)) for ms in args.step_ms
    }
    cases |= {env_id: partial(make_vector_env, env_id, vectorization="sync") for env_id in args.ids}
    if find_spec("mpe2"):
        cases["mpe2 simple_spread"] = partial(ParallelVectorEnv, SPREAD)
    else:
        print("simple_spread is left out: mpe2 is not installed (pip install mpe2)")
    start = machine.load()
    print(f"{'environment':20} {'where':>14} {'env-steps/s':>12} {'slowest':>9} {'fastest':>9} {'ratio':>6}")
    for name, make in cases.items():
        envs: list[Any] = [make(args.num_envs)]
        places = ["in process", *(f"{w} workers" for w in args.num_workers)]
        try:
            envs += (WorkerVectorEnv(make, args.num_envs, w) for w in args.num_workers)
            if name in args.ids:
                envs.append(OfGymnasium(name, args.num_envs))
                places.append("AsyncVectorEnv")
            measured = speeds(envs, args.seconds, args.rounds)
        finally:
            for env in envs:
                env.close()
        for where, rounds in zip(places, measured, strict=True):
            ratio = np.median(rounds) / np.median(measured[0])
            shown = f"{np.median(rounds):12,.0f} {min(rounds):9,.0f} {max(rounds):9,.0f} {ratio:6.2f}"
            print(f"{name:20} {where:>14} {shown}")
    print(machine.as_text(machine.describe(), start, machine.load()))


if __name__ == "__main__":
    main()
