"""Learning curves of Stable-Baselines3, for the tables of ``learning.py``.

``python tests/benchmarks/learn_sb3.py sac_halfcheetah --seeds 0 1 2`` appends one JSON line per seed to
``tests/benchmarks/results/learning/sac_halfcheetah_sb3.jsonl``: greedy returns (10 episodes) at ten
equidistant points of training.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from peers import PPO_CARTPOLE, PPO_HALFCHEETAH, SAC_HALFCHEETAH, sb3_greedy_return, sb3_ppo, sb3_sac

TASKS = {"ppo_cartpole": PPO_CARTPOLE, "ppo_halfcheetah": PPO_HALFCHEETAH, "sac_halfcheetah": SAC_HALFCHEETAH}
POINTS, EPISODES, EVAL_SEED = 10, 10, 10_000
RESULTS = Path(__file__).parent / "results" / "learning"


def main() -> None:
    """Train every seed one after the other and append its curve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = TASKS[args.task]
    RESULTS.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        model = (sb3_sac if args.task.startswith("sac") else sb3_ppo)(settings, seed)
        curve: list[list[float]] = []
        evaluation_s = 0.0

        def evaluate(local: dict, _: dict, *, curve: list = curve) -> bool:
            nonlocal evaluation_s
            model, start = local["self"], time.perf_counter()
            while model.num_timesteps >= (len(curve) + 1) * settings["steps"] // POINTS:
                value = sb3_greedy_return(model, settings["env"], EPISODES, EVAL_SEED)
                curve.append([model.num_timesteps, value])
            evaluation_s += time.perf_counter() - start
            return True

        start = time.perf_counter()
        model.learn(settings["steps"], callback=evaluate)
        seconds = time.perf_counter() - start - evaluation_s
        line = {"library": "stable-baselines3", "task": args.task, "seed": seed, "threads": args.threads,
                "train_seconds": round(seconds, 1), "curve": curve}  # fmt: skip
        with (RESULTS / f"{args.task}_sb3.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
