"""Transitions per second from two worker processes: ``python tests/benchmarks/bench_transport.py``.

Environments and policy cost next to nothing, so that what is measured is how experience travels: whole
rollouts through ``SharedExperienceBuffer``, as ``collector: workers`` sends them, against one pickled dict
per transition through a ``multiprocessing.Queue``, which is the way of the document of the shared PPO. A
transition has an observation of 17 and an action of 6 numbers. Rounds alternate; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from functools import partial
from typing import Any

import machine
import numpy as np
import torch
from torch import Tensor

from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.types import ActionSpec, Decision, EnvSpec, LeafSpec, Nested, Step

OBS, ACTION = 17, 6
WORKERS, ENVS, STEPS = 2, 64, 128
AT_LEAST_PER_S, AT_LEAST_RATIO = 500_000, 20


class Still:
    """A native batch in which nothing happens."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.spec = EnvSpec(
            "still", LeafSpec([OBS]), ActionSpec("box", [ACTION], low=[-1.0] * 6, high=[1.0] * 6)
        )
        self._obs, self._reward = np.zeros((num_envs, OBS), np.float32), np.zeros(num_envs, np.float32)
        self._never = np.zeros(num_envs, bool)

    def reset(self, seed: int) -> np.ndarray:
        return self._obs

    def step(self, action: np.ndarray) -> Step:
        return Step(self._obs, self._reward, self._never, self._never, None, None, {})

    def get_state(self) -> None:
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        raise ValueError("nothing is saved")

    def close(self) -> None:
        pass


class Constant:
    """Always acts the same, and records a log-probability."""

    def initial_carry(self, num_envs: int) -> Nested:
        return {}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        number = len(reset)
        return Decision(torch.zeros(number, ACTION), carry, {"log_prob": torch.zeros(number)})


def shared(seconds: float, collector: WorkersCollector) -> float:
    """Transitions per second of whole rollouts through shared memory."""
    start, transitions = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        transitions += collector.collect(Constant(), STEPS, 0)["new_steps"]
    return transitions / (time.perf_counter() - start)


def produce(queue: Any, is_over: Any) -> None:
    """Put one dict per transition into the queue, in another process."""
    rng = np.random.default_rng(0)
    obs, action = rng.random(OBS, np.float32), rng.random(ACTION, np.float32)
    while not is_over.is_set():
        queue.put(
            {
                "state": obs, "action": action, "reward": 0.0, "next_state": obs, "done": False,
                "log_prob": 0.0, "worker": 0,
            }
        )  # fmt: skip


def queued(seconds: float) -> float:
    """Transitions per second through a queue, counted where they arrive."""
    context = multiprocessing.get_context("spawn")
    queue, is_over = context.Queue(20_000), context.Event()
    producers = [context.Process(target=produce, args=(queue, is_over), daemon=True) for _ in range(WORKERS)]
    for producer in producers:
        producer.start()
    for _ in range(2_000):  # outside the clock
        queue.get()
    start, transitions = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        queue.get()
        transitions += 1
    speed = transitions / (time.perf_counter() - start)
    is_over.set()
    while any(producer.is_alive() for producer in producers):
        while not queue.empty():
            queue.get()
        time.sleep(0.01)
    return speed


def main() -> None:
    """Measure both in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="per round")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    begun = machine.load()
    ways: dict[str, list[float]] = {"shared memory": [], "queue": []}
    collector = WorkersCollector(partial(Still), ENVS, 0, WORKERS)
    try:
        shared(0.5, collector)  # outside the clock: the first rollout lays the buffer out
        for _ in range(args.rounds):
            ways["shared memory"].append(shared(args.seconds, collector))
            ways["queue"].append(queued(args.seconds))
    finally:
        collector.close()
    medians = {name: statistics.median(rounds) for name, rounds in ways.items()}
    for name, rounds in ways.items():
        print(f"{name:14} {medians[name]:12,.0f} transitions/s ({min(rounds):,.0f} to {max(rounds):,.0f})")
    ratio = medians["shared memory"] / medians["queue"]
    is_met = medians["shared memory"] >= AT_LEAST_PER_S and ratio >= AT_LEAST_RATIO
    print(machine.as_text(machine.describe(), begun, machine.load()))
    told = {"transitions_per_s": medians["shared memory"], "queue_per_s": medians["queue"], "ratio": ratio}
    print(json.dumps(told | {"is_met": is_met}))


if __name__ == "__main__":
    main()
