"""Throughput of SBX, Stable-Baselines3 in JAX, on the CPU with one thread: prints one line of JSON.

``peer_venv.py sbx`` makes the environment that it runs in; ``run_all.py`` calls it. Cases: ``cartpole`` and
``halfcheetah`` (PPO with the settings of ``bench_ppo.py``: two networks of 2 x 64 with tanh, which are SBX's
defaults) and ``sac`` (batch 256, 2 x 256 with ReLU, as in ``bench_sac.py``). As for the other peers, a short
``learn``, into which all compilation falls, precedes the timed one.

What differs from ours is left as SBX's users have it: PPO steps actor and critic with an Adam each and clips
their gradients separately. SAC updates after every step of the environment by default, and with
``--chunk 64`` after every 64 steps, 64 times in one compiled call, which is the schedule of ours.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from peers import PPO_CASES, SAC_HALFCHEETAH, SAC_WARMUP_STEPS


def one_thread() -> None:
    """Keep XLA, OpenMP and every other pool to one core; has to precede the import of JAX.

    XLA's flags stop it from splitting one operation; its pool may still run two operations at once, or run
    beside Python, which the affinity prevents.
    """
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ["OMP_NUM_THREADS"] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def ppo(settings: dict[str, Any], seed: int) -> Any:
    """PPO of SBX with ``settings``."""
    from sbx import PPO
    from stable_baselines3.common.env_util import make_vec_env

    rate, clip, anneal = settings["learning_rate"], settings["clip_range"], settings["anneal"]
    return PPO(
        "MlpPolicy",
        make_vec_env(settings["env"], settings["num_envs"], seed=seed),
        n_steps=settings["n_steps"],
        batch_size=settings["batch_size"],
        n_epochs=settings["n_epochs"],
        gamma=settings["gamma"],
        gae_lambda=settings["gae_lambda"],
        learning_rate=(lambda left: rate * left) if anneal else rate,
        clip_range=(lambda left: clip * left) if anneal else clip,
        seed=seed,
    )


def sac(chunk: int, seed: int) -> Any:
    """SAC of SBX at its defaults, which are ours, with ``chunk`` steps between ``chunk`` updates."""
    import gymnasium
    from sbx import SAC

    env = gymnasium.make(SAC_HALFCHEETAH["env"])
    return SAC(
        "MlpPolicy",
        env,
        learning_starts=SAC_WARMUP_STEPS,
        train_freq=chunk,
        gradient_steps=chunk,
        seed=seed,
    )


def main() -> None:
    """Run one case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=["cartpole", "halfcheetah", "sac"])
    parser.add_argument("--rollouts", type=int, help="of PPO: stop after so many")
    parser.add_argument("--updates", type=int, default=2_048, help="of SAC")
    parser.add_argument("--chunk", type=int, default=1, help="of SAC: env steps between its updates")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    one_thread()
    import torch
    from timing import report, time_sb3

    torch.set_num_threads(1)
    if args.case == "sac":
        warmup = SAC_WARMUP_STEPS + 2 * max(args.chunk, 64)
        timing = time_sb3(sac(args.chunk, args.seed), warmup, args.updates, 1.0, restart=False)
    else:
        settings = PPO_CASES[args.case]
        rollout = settings["num_envs"] * settings["n_steps"]
        steps = args.rollouts * rollout if args.rollouts else settings["steps"]
        updates_per_step = settings["n_epochs"] / settings["batch_size"]
        timing = time_sb3(ppo(settings, args.seed), 2 * rollout, steps, updates_per_step, restart=True)
    report(timing, case=args.case, side="SBX", seed=args.seed)


if __name__ == "__main__":
    main()
