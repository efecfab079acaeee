"""Alice and Bob alone, uniform random actions: ``python tests/benchmarks/bench_alice_bob.py``.

One thread; the actions are drawn before the clock starts. Prints one line of JSON per number of environments:
the median and the slowest of the rounds, and the median by CPU time, which a busy machine disturbs less.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np
import torch

from lit_rl.envs.alice_bob import AliceAndBob

ROUNDS = 7
STEPS = 500


def seconds(env: AliceAndBob) -> list[tuple[float, float]]:
    """Wall and CPU seconds of each round of ``STEPS`` steps; episodes go on between rounds."""
    rng = np.random.default_rng(0)
    env.reset(0)
    rounds = []
    for i in range(ROUNDS + 1):
        actions = rng.integers(5, size=(STEPS, env.num_envs, 2))
        start, cpu_start = time.perf_counter(), time.process_time()
        for action in actions:
            env.step(action)
        if i:  # the first one warms up
            rounds.append((time.perf_counter() - start, time.process_time() - cpu_start))
    return rounds


def main() -> None:
    """Time the sizes asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-envs", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--one-hot", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for num_envs in args.num_envs:
        wall, cpu = zip(*seconds(AliceAndBob(num_envs, args.one_hot)), strict=True)
        result = {
            "num_envs": num_envs,
            "one_hot": args.one_hot,
            "env_steps_per_s": round(STEPS * num_envs / statistics.median(wall)),
            "slowest": round(STEPS * num_envs / max(wall)),
            "env_steps_per_cpu_s": round(STEPS * num_envs / statistics.median(cpu)),
        }
        print(json.dumps(result))


if __name__ == "__main__":
    main()
