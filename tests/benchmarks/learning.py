"""Learning curves of the shipped configs over several random seeds, beside those of the peer.

``python tests/benchmarks/learning.py run sac_halfcheetah --seeds 0 1 2`` trains the config with the command a
user types, once per seed, and appends one JSON line each to ``results/learning/<task>_<variant>.jsonl``: the
greedy returns that ``metrics.csv`` recorded. ``... learning.py table`` prints the table of all results and
writes it into ``results/learning.md``, and all curves into ``results/learning_curves.csv``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[2] / "configs"
RESULTS = Path(__file__).parent / "results"
LEARNING = RESULTS / "learning"
VARIANTS = {
    "default": [],
    "float32": ["--model.matmul_precision", "highest"],
    "compile": ["--model.compile", "true"],
    "rate_3e-4": ["--model.learning_rate", "3e-4"],
    "entropy_3e-3": ["--model.entropy_coef", "3e-3"],
    "as_dense": [  # the sparse UAV network with what else hmasd_uav has
        *("--model.gru", "64", "--model.chunk_length", "8", "--model.n_z", "3"),
        *("--model.lambda_h", "0.001", "--model.lambda_l", "0.001"),
    ],
    "no_agent_ids": ["--model.agent_ids", "false", "--model.learning_rate", "3e-4"],  # UAV, as it first was
}
TARGETS = {
    ("ppo_cartpole", "return"): 475.0,
    ("ppo_cartpole_fast", "return"): 475.0,
    ("sac_pendulum", "return"): -200.0,
}
MEAN_TARGETS = {
    ("hmasd_alice_bob", "return"): 0.7,  # 1 for a success, else 0
    ("mappo_spread", "return"): -14.0,
    ("mappo_uav", "coverage_ratio"): 0.6,
    ("mappo_uav", "system_throughput_mbps"): 98.0,
    ("hmasd_uav", "coverage_ratio"): 0.6,
    ("hmasd_uav", "system_throughput_mbps"): 98.0,
}
"""For the mean over seeds: task and value to the least it shall be."""
RIVALS = {"hmasd_uav_sparse": "mappo_uav_sparse"}
"""Tasks whose success shall exceed, on average over their seeds, that of another with the same seeds after as
many env steps."""
SUCCESS, SUCCESS_ON_THE_WAY = "eval/success_rate", "success_rate, mean of all evaluations"
OTHERS = (SUCCESS, "eval/env/coverage_ratio", "eval/env/system_throughput_mbps")
"""What is kept beside the return, at the same steps."""
STUDENT_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def run(task: str, variant: str, seeds: list[int], threads: int, env_steps: int | None) -> None:
    """Train ``task`` once per seed and append the curves.

    Args:
        task: Name of a shipped config.
        variant: Of ``VARIANTS``.
        seeds: Random seeds.
        threads: Of each run.
        env_steps: In place of the budget of the config, and of its annealing where it anneals.
    """
    shorter = [] if env_steps is None else ["--budget.total_env_steps", str(env_steps)]
    if shorter and "anneal_env_steps" in (CONFIGS / f"{task}.yaml").read_text():
        shorter += ["--model.anneal_env_steps", str(env_steps)]
    LEARNING.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        with tempfile.TemporaryDirectory() as folder:
            command = [
                sys.executable,
                "-m",
                "lit_rl",
                "fit",
                "--config",
                task,
                "--seed_everything",
                str(seed),
            ]
            command += [
                "--run_dir",
                f"{folder}/run",
                "--model.threads",
                str(threads),
                *VARIANTS[variant],
                *shorter,
            ]
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds = time.perf_counter() - start
            rows = list(csv.DictReader((Path(folder) / "run" / "metrics.csv").open()))
            versions = json.loads((Path(folder) / "run" / "versions.json").read_text())
        evaluated = [row for row in rows if row.get("eval/return_mean")]
        line = {"library": "lit_rl", "task": task, "variant": variant, "seed": seed, "threads": threads,
                "wall_seconds": round(seconds, 1), "git": versions["git"],
                "curve": [[int(r["step"]), float(r["eval/return_mean"])] for r in evaluated]}  # fmt: skip
        for name in OTHERS:
            if evaluated and evaluated[-1].get(name):
                line[name] = [float(row[name]) for row in evaluated]
        with (LEARNING / f"{task}_{variant}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def summary(path: Path) -> list[str]:
    """Table rows of one curve file: the greedy return of all seeds at the end, then other values that count.

    Each with mean and 95 % interval (Student), every seed, and the target.
    """
    lines = _read(path)
    first = lines[0]
    name = f"lit_rl, {first['variant']}" if "variant" in first else first["library"]
    steps = " ".join(dict.fromkeys(str(line["curve"][-1][0]) for line in lines))
    keys = ["return", *(key for key in OTHERS if all(key in line for line in lines))]
    if SUCCESS in keys:
        keys.insert(keys.index(SUCCESS) + 1, SUCCESS_ON_THE_WAY)
    rows = []
    for key in keys:
        label, values = key.rpartition("/")[2], [_of(line, key) for line in lines]
        each = " ".join(f"{value:.4g}" for value in values)
        verdict = _verdict(first["task"], key, lines) if first.get("variant") == "default" else ""
        rows.append(
            f"| {first['task']} | {name} | {steps} | {label} | {_mean(values)} | {each} | {verdict} |"
        )
    return rows


def write_curves(paths: list[Path]) -> None:
    """``results/learning_curves.csv``: a row for each evaluation, empty where a value was not recorded."""
    names = [key.rpartition("/")[2] for key in OTHERS]
    with (RESULTS / "learning_curves.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["task", "library", "variant", "seed", "env_steps", "return", *names])
        for line in (line for path in paths for line in _read(path)):
            run = [line["task"], line["library"], line.get("variant", ""), line["seed"]]
            for index, (env_steps, value) in enumerate(line["curve"]):
                others = [f"{line[key][index]:.6g}" if key in line else "" for key in OTHERS]
                writer.writerow([*run, env_steps, f"{value:.6g}", *others])


def _mean(values: list[float]) -> str:
    mean = f"{statistics.fmean(values):.4g}"
    if len(values) == 1:
        return mean
    half = STUDENT_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean} +- {half:.{0 if half >= 100 else 1 if half >= 1 else 3}f}"


def _of(line: dict[str, Any], key: str) -> float:
    """A value at the end of a run, or on the way."""
    if key == SUCCESS_ON_THE_WAY:
        return statistics.fmean(line[SUCCESS])
    return line["curve"][-1][1] if key == "return" else line[key][-1]


def _verdict(task: str, key: str, lines: list[dict[str, Any]]) -> str:
    label, values = key.rpartition("/")[2], [_of(line, key) for line in lines]
    every, mean = TARGETS.get((task, label)), MEAN_TARGETS.get((task, label))
    rival = RIVALS.get(task)
    if rival is not None and key in (SUCCESS, SUCCESS_ON_THE_WAY):
        theirs = {line["seed"]: line for line in _read(LEARNING / f"{rival}_default.jsonl")}
        if any(line["seed"] not in theirs for line in lines):
            return f"not compared with {rival}: other seeds"
        if any(line["curve"][-1][0] != theirs[line["seed"]]["curve"][-1][0] for line in lines):
            return f"not compared with {rival}: other numbers of env steps"
        more = [value - _of(theirs[line["seed"]], key) for value, line in zip(values, lines, strict=True)]
        word = "above" if statistics.fmean(more) > 0 else "not above"
        return f"{word} {rival}, with the same seeds by {_mean(more)}"
    if every is not None:
        return f"{'reached' if min(values) >= every else 'missed'} ({every:g} in every seed)"
    if mean is not None:
        return f"{'reached' if statistics.fmean(values) >= mean else 'missed'} ({mean:g} on average)"
    return ""


def table() -> None:
    """Print and write the table of every curve file, and the curves."""
    head = "| task | who | env steps | value | mean +- 95 % interval | seeds | target |"
    head += "\n|---|---|---|---|---|---|---|"
    paths = sorted(LEARNING.glob("*.jsonl"))
    rows = [row for path in paths for row in summary(path)]
    write_curves(paths)
    text = "\n".join([head, *rows])
    print(text)
    (RESULTS / "learning.md").write_text(
        "# Learning\n\nThe greedy policy at the end of training, one value per random seed. Written by "
        "`python tests/benchmarks/learning.py table`;\nthe curves lie in `learning_curves.csv` and, with "
        "commits and seconds, in `learning/*.jsonl`, made by\n"
        "`python tests/benchmarks/learning.py run TASK --variant VARIANT --seeds ...`\nand "
        "`python tests/benchmarks/learn_sb3.py TASK --seeds ...`.\nThe seconds in the curve files are of a "
        "machine shared with other work, partly with the run paused: they are no measure of speed.\n\n"
        + text
        + "\n"
    )


def main() -> None:
    """Run a task, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run")
    runner.add_argument("task")
    runner.add_argument("--variant", choices=VARIANTS, default="default")
    runner.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    runner.add_argument("--threads", type=int, default=1)
    runner.add_argument("--env-steps", type=int, help="a shorter run than the config's")
    commands.add_parser("table")
    args = parser.parse_args()
    if args.command == "table":
        table()
    else:
        run(args.task, args.variant, args.seeds, args.threads, args.env_steps)


if __name__ == "__main__":
    main()
