"""The least time an update can take: its matrix products alone, at the rate this machine multiplies matrices.

Counted are forward products and the products of the gradients by weights and inputs, two operations per
multiply-add. All else (activations, optimizer, environment, Python) is what a learner adds to the floor.
``python tests/benchmarks/floors.py`` prints the rate of a 256 x 256 x 256 float32 product by torch's two
routes (``highest``, ``medium``) as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from itertools import pairwise

import torch


def multiply_adds(*widths: int) -> int:
    """Of one row through a perceptron of these widths."""
    return sum(a * b for a, b in pairwise(widths))


def ppo_flop(obs: int, outputs: int, batch: int) -> int:
    """Of one gradient step of PPO with 2 x 64 actor and critic: one forward, two backward passes each."""
    return 2 * 3 * batch * (multiply_adds(obs, 64, 64, outputs) + multiply_adds(obs, 64, 64, 1))


def sac_flop(obs: int, action: int, batch: int) -> int:
    """Of one update of SAC with 2 x 256 networks.

    The actor takes 4 passes (next action; forward and two backward of its loss), the twin critics 12 (targets
    2; forward and two backward of their loss 6; forward and backward to the action in the policy's loss 4).
    """
    actor = multiply_adds(obs, 256, 256, 2 * action)
    critic = multiply_adds(obs + action, 256, 256, 1)
    return 2 * batch * (4 * actor + 12 * critic)


FLOP = {
    "ppo_cartpole": ppo_flop(4, 2, 256),
    "ppo_cleanrl": ppo_flop(4, 2, 128),
    "ppo_halfcheetah": ppo_flop(17, 6, 64),
    "sac": sac_flop(17, 6, 256),
}
"""Operations per update of the cases of ``cases.py``."""


def gemm_gflops(precision: str, threads: int, repeats: int) -> float:
    """Billions of operations per second of a 256 x 256 x 256 product (median)."""
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision(precision)
    a, b = torch.randn(2, 256, 256)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return 2 * 256**3 / statistics.median(seconds) / 1e9


def main() -> None:
    """Measure both routes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3_000)
    args = parser.parse_args()
    print(json.dumps({name: gemm_gflops(name, args.threads, args.repeats) for name in ("highest", "medium")}))


if __name__ == "__main__":
    main()
