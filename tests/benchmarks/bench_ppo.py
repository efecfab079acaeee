"""Throughput of PPO: ``python tests/benchmarks/bench_ppo.py CASE SIDE`` prints one line of JSON.

Cases: ``cartpole`` and ``halfcheetah`` against Stable-Baselines3, ``cleanrl`` against a script in CleanRL's
style at CleanRL's defaults. Sides: ``default`` (ours), ``compile`` (ours, compiled; compilation falls into
the first two batches, which do not count for either of ours), ``workers`` (compiled, two processes collect
strictly by the present policy), ``ahead`` (compiled, one process collects while the learner trains, so that
rollouts are of the policy before), ``peer``. One thread in each process, CPU.
"""

from __future__ import annotations

import argparse
from typing import Any

import cleanrl_ppo
import torch
from measure import fit
from peers import PPO_CASES, sb3_ppo
from timing import Timing, report, time_sb3

from lit_rl import PPO, RolloutDataModule

COLLECTION: dict[str, dict[str, Any]] = {
    "workers": {"collector": "workers", "num_workers": 2},
    "ahead": {"collector": "workers", "num_workers": 1, "max_policy_lag": 1},
}
"""Arguments of the data module, where they are not those of one process."""


def ours(settings: dict[str, Any], seed: int, threads: int, *, compiled: bool, **collection: Any) -> Timing:
    """PPO of lit_rl with ``settings``."""
    module = PPO(
        learning_rate=settings["learning_rate"],
        anneal_env_steps=settings["steps"] if settings["anneal"] else None,
        batch_size=settings["batch_size"],
        update_epochs=settings["n_epochs"],
        gamma=settings["gamma"],
        gae_lambda=settings["gae_lambda"],
        clip=settings["clip_range"],
        clip_value=settings.get("clip_value"),
        value_coef=settings.get("value_coef", 0.5),
        entropy_coef=settings.get("entropy_coef", 0.0),
        compile=compiled,
        threads=threads,
    )
    data = RolloutDataModule(settings["env"], settings["num_envs"], settings["n_steps"], **collection)
    return fit(module, data, settings["steps"], seed)


def peer(case: str, settings: dict[str, Any], seed: int) -> Timing:
    """The same settings in the other library."""
    if case == "cleanrl":
        return Timing(**cleanrl_ppo.train(settings["steps"], seed))
    rollout = settings["num_envs"] * settings["n_steps"]
    updates_per_step = settings["n_epochs"] / settings["batch_size"]
    return time_sb3(sb3_ppo(settings, seed), 2 * rollout, settings["steps"], updates_per_step, restart=True)


def main() -> None:
    """Run one side of one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=PPO_CASES)
    parser.add_argument("side", choices=["default", "compile", *COLLECTION, "peer"])
    parser.add_argument("--rollouts", type=int, help="stop after so many rollouts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = PPO_CASES[args.case]
    if args.rollouts:
        settings = settings | {"steps": args.rollouts * settings["num_envs"] * settings["n_steps"]}
    if args.side == "peer":
        timing = peer(args.case, settings, args.seed)
    else:
        collection = COLLECTION.get(args.side, {})
        timing = ours(settings, args.seed, args.threads, compiled=args.side != "default", **collection)
    report(timing, case=args.case, side=args.side, seed=args.seed)


if __name__ == "__main__":
    main()
