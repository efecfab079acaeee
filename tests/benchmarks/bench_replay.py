"""Replay memory: add 16 transitions, sample 256; ``python tests/benchmarks/bench_replay.py SHAPE SIDE``.

Shapes: ``envs`` is one step of 16 environments (one ``add`` for both), ``steps`` is 16 steps of one
environment (one ``add`` of ours, 16 of Stable-Baselines3's, which knows no chunks). Sides: ``ours`` and
``peer``. Observations of 17, actions of 6, float32, both memories full (100,000 transitions), one thread.
Both return torch tensors.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from lit_rl.buffers import ReplayRing

OBS, ACTION, NEW, BATCH, CAPACITY = 17, 6, 16, 256, 100_000
ROUNDS = 7


def ours(num_envs: int) -> Callable[[], object]:
    """Add and sample with ``ReplayRing``, filled."""

    def transitions(steps: int) -> dict[str, torch.Tensor]:
        flags = torch.zeros(steps, num_envs, dtype=torch.bool)
        return {
            "obs": torch.randn(steps, num_envs, OBS),
            "action": torch.randn(steps, num_envs, ACTION),
            "reward": torch.randn(steps, num_envs),
            "terminated": flags,
            "truncated": flags,
            "next_obs": torch.randn(steps, num_envs, OBS),
            "valid": ~flags,
        }

    ring = ReplayRing(CAPACITY, num_envs)
    ring.add(transitions(ring.num_rows))
    new = transitions(NEW // num_envs)

    def add_and_sample() -> object:
        ring.add(new)
        return ring.sample(1, BATCH, gamma=0.99)

    return add_and_sample


def peer(num_envs: int) -> Callable[[], object]:
    """Add and sample with Stable-Baselines3's ``ReplayBuffer``, filled."""
    from gymnasium.spaces import Box
    from stable_baselines3.common.buffers import ReplayBuffer

    buffer = ReplayBuffer(
        CAPACITY, Box(-np.inf, np.inf, (OBS,)), Box(-1, 1, (ACTION,)), device="cpu", n_envs=num_envs
    )
    rng = np.random.default_rng(0)
    obs, next_obs, action, reward = (
        rng.standard_normal((num_envs, *size)).astype(np.float32) for size in ((OBS,), (OBS,), (ACTION,), ())
    )
    done, infos = np.zeros(num_envs, bool), [{} for _ in range(num_envs)]
    for _ in range(CAPACITY // num_envs):
        buffer.add(obs, next_obs, action, reward, done, infos)

    def add_and_sample() -> object:
        for _ in range(NEW // num_envs):
            buffer.add(obs, next_obs, action, reward, done, infos)
        return buffer.sample(BATCH)

    return add_and_sample


def microseconds(function: Callable[[], object], repeats: int) -> float:
    """Median over rounds of the mean time of one call."""
    for _ in range(repeats // 10 + 1):
        function()
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        rounds.append((time.perf_counter() - start) / repeats)
    return 1e6 * statistics.median(rounds)


def main() -> None:
    """Time one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=["envs", "steps"])
    parser.add_argument("side", choices=["ours", "peer"])
    parser.add_argument("--repeats", type=int, default=2_000)
    args = parser.parse_args()
    torch.set_num_threads(1)
    function = {"ours": ours, "peer": peer}[args.side](NEW if args.shape == "envs" else 1)
    us = microseconds(function, args.repeats)
    print(json.dumps({"shape": args.shape, "side": args.side, "microseconds": us}))


if __name__ == "__main__":
    main()
