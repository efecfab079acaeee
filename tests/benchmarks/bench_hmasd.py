"""How fast HMASD trains, with the command a user types, and where its time goes.

``python tests/benchmarks/bench_hmasd.py [--configs hmasd_uav hmasd_alice_bob] [--threads 2] [--rounds 3]``
runs ``lit-rl fit`` of each configuration for some updates, several times, and prints for each run the medians
over its updates (the first ones left out) of env steps per second, end to end with logging, and of seconds
of collection and update; then the median of the runs. Beside it stands what is known of the first
implementation: 41.4 env steps per second, from the events of a run that it shipped.

``... one --configs CONFIG`` is a single run, as ``run_all.py`` calls it; ``... parts`` prints milliseconds
of each part of an update of ``hmasd_uav``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

CONFIGS = ("hmasd_uav", "hmasd_alice_bob")
ORIGIN_STEPS_PER_SECOND = 41.4
WARM_UP = 3
"""Updates at the start that do not count."""


def run(config: str, threads: int, updates: int) -> dict[str, float]:
    """Medians over the updates of one run.

    Raises:
        SystemExit: It failed; its output is shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lit_rl", "fit", "--config", config, "--run_dir", f"{folder}/run",
                   "--seed_everything", "0", "--trainer.accelerator", "cpu", "--trainer.max_epochs", "1",
                   "--model.threads", str(threads), "--data.init_args.eval_episodes", "1",
                   "--data.init_args.rollouts_per_epoch", str(updates + WARM_UP)]  # fmt: skip
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-4000:]}")
        rows = list(csv.DictReader((Path(folder) / "run" / "metrics.csv").open()))
    rows = [row for row in rows if row["time/env_steps_per_s"]][WARM_UP:]
    names = {
        "env_steps_per_s": "time/env_steps_per_s",
        "collect_s": "time/collect_s",
        "update_s": "time/update_s",
    }
    return {name: statistics.median(float(row[column]) for row in rows) for name, column in names.items()}


def speed(configs: list[str], threads: int, updates: int, rounds: int) -> None:
    """Print the runs and their medians, and all of it as one line of JSON."""
    results = []
    for config in configs:
        runs = []
        for number in range(rounds):
            runs.append(run(config, threads, updates))
            texts = ", ".join(f"{name} {value:.4g}" for name, value in runs[-1].items())
            print(f"{config} ({threads} threads), run {number + 1}: {texts}", flush=True)
        medians = {name: statistics.median(one[name] for one in runs) for name in runs[0]}
        share = medians["update_s"] / (medians["update_s"] + medians["collect_s"])
        print(
            f"{config}: median {medians['env_steps_per_s']:.0f} env steps/s, {share:.0%} of the time in the "
            f"update; the first implementation {ORIGIN_STEPS_PER_SECOND} (on its own network)",
            flush=True,
        )
        results.append({"config": config, "threads": threads, "runs": runs, "medians": medians})
    print(json.dumps(results))


def parts(threads: int) -> None:
    """Print the milliseconds of each part of an update with the settings of ``hmasd_uav``: best of three."""
    from lit_rl import HMASD
    from lit_rl.algos.hmasd.decisions import Seen
    from lit_rl.collect.inline import InlineCollector
    from lit_rl.envs.uav.network import UAVNetwork

    torch.set_num_threads(threads)
    env = UAVNetwork(32)
    module = HMASD(spec=env.spec)
    module.configure_model()
    high, low, team, individual = module.configure_optimizers()
    rollout = InlineCollector(env, 0).collect(module, 32, 0)
    module.replay_tolerance = None  # a rollout is learned from repeatedly
    with torch.no_grad():
        seen = Seen(
            *module._vectors(rollout["obs"]), *module._vectors(rollout["final_obs"]), rollout["final_index"]
        )
        next_state, next_obs = seen.following()
        rewards, _ = module._rewards(rollout, next_state, next_obs)
        decisions, _ = module._decisions(rollout, seen)
    skills = rollout["extras"]["team_skill"], rollout["extras"]["agent_skills"]
    work: dict[str, Callable[[], object]] = {
        "collection": lambda: InlineCollector(UAVNetwork(32), 0).collect(module, 32, 0),
        "skill coordinator": lambda: module.coordinator.learn(decisions, high, module.ranks),
        "skill discoverer": lambda: module._train_discoverer(rollout, rewards, low, 1.0),
        "team discriminator": lambda: module.team_discriminator.learn(next_state, skills[0], None, team),
        "individual discriminator": lambda: module.individual_discriminator.learn(
            next_obs, *skills, None, individual
        ),
    }
    for name, call in work.items():
        times = []
        for _ in range(3):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(f"{name}: {1e3 * min(times):.1f} ms", flush=True)


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", choices=["speed", "one", "parts"], default="speed")
    parser.add_argument("--configs", nargs="+", default=list(CONFIGS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if args.what == "parts":
        parts(args.threads)
    elif args.what == "one":
        print(json.dumps(run(args.configs[0], args.threads, args.updates)))
    else:
        speed(args.configs, args.threads, args.updates, args.rounds)


if __name__ == "__main__":
    main()
