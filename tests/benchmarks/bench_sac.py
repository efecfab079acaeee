"""Throughput of SAC on HalfCheetah-v5: ``python tests/benchmarks/bench_sac.py SIDE`` prints one line of JSON.

Batch 256, two hidden layers of 256, one environment, one update per env step, float32, CPU. Sides:
``default`` (ours), ``compile`` (ours, compiled; compilation falls into the first two batches, which do not
count for either of ours), ``peer`` (Stable-Baselines3 at its defaults). ``--precision`` chooses the route
of float32 matrix products: ours takes ``auto`` unless told, the peer ``highest``, which is torch's default.
An SB3 user could set ``medium`` as well, so that is measured too.
"""

from __future__ import annotations

import argparse

import torch
from measure import fit
from peers import SAC_HALFCHEETAH, SAC_WARMUP_STEPS, sb3_sac
from timing import Timing, report, time_sb3

from lit_rl import SAC, ReplayDataModule

PEER_WARMUP_UPDATES = 100


def ours(updates: int, precision: str, seed: int, threads: int, *, compiled: bool) -> Timing:
    """SAC of lit_rl; 64 env steps and 64 updates a batch, as is the default."""
    module = SAC(compile=compiled, threads=threads, matmul_precision=precision)
    data = ReplayDataModule(
        SAC_HALFCHEETAH["env"], warmup_steps=SAC_WARMUP_STEPS, capacity=SAC_HALFCHEETAH["steps"]
    )
    skip = 2
    return fit(module, data, SAC_WARMUP_STEPS + skip * data.minibatches + updates, seed, skip)


def peer(updates: int, precision: str, seed: int) -> Timing:
    """SAC of Stable-Baselines3."""
    torch.set_float32_matmul_precision("highest" if precision == "auto" else precision)
    model = sb3_sac(SAC_HALFCHEETAH | {"learning_starts": SAC_WARMUP_STEPS}, seed)
    return time_sb3(model, SAC_WARMUP_STEPS + PEER_WARMUP_UPDATES, updates, 1.0, restart=False)


def main() -> None:
    """Run one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["default", "compile", "peer"])
    parser.add_argument("--precision", choices=["auto", "highest", "medium"], default="auto")
    parser.add_argument("--updates", type=int, default=2_048)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.side == "peer":
        timing = peer(args.updates, args.precision, args.seed)
    else:
        timing = ours(args.updates, args.precision, args.seed, args.threads, compiled=args.side == "compile")
    report(timing, side=args.side, precision=args.precision, seed=args.seed)


if __name__ == "__main__":
    main()
