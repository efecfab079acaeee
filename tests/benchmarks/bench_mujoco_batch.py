"""Env steps per second of native MuJoCo batches against copies of Gymnasium's environments, in turn.

``python tests/benchmarks/bench_mujoco_batch.py --env HalfCheetah-v5 --num_envs 8 --threads 1 2`` plays random
actions in both, new episodes included. The copies step one after the other in one process
(``SyncVectorEnv``), as ``vectorization: sync`` does. Rounds alternate; printed are medians, and the median of
the ratios of a round, and the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import machine
import numpy as np

from lit_rl.envs.vector import make_vector_env


def rate(env: Any, actions: np.ndarray, seconds: float) -> float:
    """Env steps per second of all environments."""
    num_steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        env.step(actions[num_steps % len(actions)])
        num_steps += 1
    return num_steps * env.num_envs / (time.perf_counter() - start)


def compare(env_id: str, num_envs: int, threads: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Alternate rounds of the batch and of copies."""
    batch = make_vector_env(env_id, num_envs, vectorization="native", env_kwargs={"threads": threads})
    copies = make_vector_env(env_id, num_envs, vectorization="sync")
    shape = (64, num_envs, *batch.spec.action.shape)
    actions = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    found: dict[str, list[float]] = {"batch": [], "copies": []}
    for env in (batch, copies):
        env.reset(0)
        rate(env, actions, 0.2)
    for _ in range(rounds):
        for name, env in (("batch", batch), ("copies", copies)):
            found[name].append(rate(env, actions, seconds))
    for env in (batch, copies):
        env.close()
    ratios = np.divide(found["batch"], found["copies"])
    return {
        "env": env_id, "num_envs": num_envs, "threads": threads,
        "batch_per_s": round(float(np.median(found["batch"]))),
        "copies_per_s": round(float(np.median(found["copies"]))),
        "ratio": round(float(np.median(ratios)), 2),
        "lowest_ratio": round(float(ratios.min()), 2), "highest_ratio": round(float(ratios.max()), 2),
    }  # fmt: skip


def main() -> None:
    """Run what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--env", nargs="+", default=["HalfCheetah-v5"], help="ids with a native batch")
    parser.add_argument("--num_envs", type=int, default=8)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round of either")
    given = parser.parse_args()
    lines, begun = [], machine.load()
    for env_id in given.env:
        for threads in given.threads:
            line = compare(env_id, given.num_envs, threads, given.rounds, given.seconds)
            lines.append(line)
            print(
                f"{env_id}, {threads} thread(s): {line['batch_per_s']:,} against {line['copies_per_s']:,} "
                f"env steps/s, {line['ratio']} ({line['lowest_ratio']} to {line['highest_ratio']})"
            )
    print(machine.as_text(machine.describe(), begun, machine.load()))
    print(json.dumps(lines))


if __name__ == "__main__":
    main()
