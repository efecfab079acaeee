"""Throughput of MAPPO on simple_spread_v3.

``python tests/benchmarks/bench_mappo.py SIDE`` prints one line of JSON.
The settings are those of the shipped config ``mappo_spread``. Sides: ``default`` and ``compile``, both ours;
``peer_benchmarl.py`` is the peer. One process, one thread, CPU.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch
from measure import fit
from peers import MAPPO_SPREAD
from timing import Timing, report

from lit_rl import PPO, RolloutDataModule
from lit_rl.encoders.perceptron import PerceptronEncoder

SKIP = 2
AGENTS = 3


def ours(settings: dict[str, Any], rollouts: int, seed: int, threads: int, *, compiled: bool) -> Timing:
    """MAPPO of lit_rl."""
    hidden = (settings["hidden"],)
    encoder = partial(PerceptronEncoder, hidden=hidden, activation="relu", layer_norm=True)
    module = PPO(
        hidden=hidden,
        activation="relu",
        encoder=encoder,
        critic_encoder=encoder,
        learning_rate=settings["learning_rate"],
        anneal_env_steps=2_000_000,
        batch_size=settings["batch_size"] * AGENTS,
        update_epochs=settings["n_epochs"],
        gamma=settings["gamma"],
        gae_lambda=settings["gae_lambda"],
        clip=settings["clip_range"],
        clip_value=0.2,
        value_coef=settings["value_coef"],
        entropy_coef=settings["entropy_coef"],
        huber_delta=10.0,
        value_norm=True,
        max_grad_norm=settings["max_grad_norm"],
        central_critic=True,
        compile=compiled,
        threads=threads,
    )
    env = {"class_path": "mpe2.simple_spread_v3.parallel_env", "init_args": settings["env"]}
    data = RolloutDataModule(env, settings["num_envs"], settings["n_steps"])
    env_steps = (SKIP + rollouts) * settings["num_envs"] * settings["n_steps"]
    return fit(module, data, env_steps, seed, SKIP)


def main() -> None:
    """Run one side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["default", "compile"])
    parser.add_argument("--rollouts", type=int, default=15, help="that count")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    timing = ours(MAPPO_SPREAD, args.rollouts, args.seed, args.threads, compiled=args.side == "compile")
    report(timing, case="mappo_spread", side=args.side, seed=args.seed)


if __name__ == "__main__":
    main()
