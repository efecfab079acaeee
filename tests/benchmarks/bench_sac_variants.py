"""Variants of SAC beside SAC: returns at equal env steps and at equal CPU time, and the cost of an update.

``python tests/benchmarks/bench_sac_variants.py run sac_redq --env Hopper-v5 --seeds 1 2 3`` trains
``configs/sac_halfcheetah`` with the preset over it on that environment (``sac``: no preset), and appends
one line per seed to ``results/sac_variants.jsonl``; a seed that stands there is left out, so that a command
can be repeated. ``... table`` prints what all lines say, and writes it into ``results/sac_variants.md``.

Equal for all: one thread, the ``medium`` route of matrix products, 5,000 env steps at random before the first
update, an evaluation of 5 greedy episodes about every 2,500 env steps, which counts in no time.
``--updates_per_step`` replaces the preset's number, and ``critic_actor_ratio`` with it where both are equal:
20 updates per env step take hours on one core. Such runs have a name of their own, ``sac_redq@5``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import yaml
from lightning.pytorch import Callback, Trainer
from measure import quiet

import lit_rl
from lit_rl import ReplayDataModule
from lit_rl.callbacks import EnvStepBudget

CONFIGS = Path(__file__).parents[2] / "configs"
RESULTS = Path(__file__).parent / "results"
LINES, TABLE = RESULTS / "sac_variants.jsonl", RESULTS / "sac_variants.md"
WARMUP_STEPS, EVALUATE_EVERY, EPISODES = 5_000, 2_500, 5
STUDENT_95 = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 7: 2.36, 8: 2.31, 9: 2.26}
"""Quantiles of 97.5 % by degrees of freedom."""


class Curve(Callback):
    """Notes after each evaluation the env steps, the mean return, and the time spent outside evaluations.

    Attributes:
        points: ``[env steps, return, CPU seconds, wall seconds]`` of each evaluation.
    """

    def __init__(self) -> None:
        self.points: list[list[float]] = []
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop the clocks."""
        self._so_far = time.process_time() - self._cpu, time.perf_counter() - self._wall

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Let the clocks go on."""
        mean = pl_module.eval_result["return_mean"]
        self.points.append([pl_module.env_steps, mean, *(round(seconds, 2) for seconds in self._so_far)])
        cpu, wall = self._so_far
        self._cpu, self._wall = time.process_time() - cpu, time.perf_counter() - wall


def settings(preset: str, updates_per_step: float | None) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return arguments of learner and data, and the name of the learner."""
    layers = ["sac_halfcheetah"] + ([] if preset == "sac" else [f"presets/{preset}"])
    model, data, learner = {}, {}, "SAC"
    for layer in layers:
        content = yaml.safe_load((CONFIGS / f"{layer}.yaml").read_text())
        learner = content.get("model", {}).get("class_path", learner)
        model |= content.get("model", {}).get("init_args", {})
        data |= content.get("data", {}).get("init_args", {})
    if updates_per_step is not None:
        if model.get("critic_actor_ratio") == data.get("updates_per_step"):
            model["critic_actor_ratio"] = round(updates_per_step)
        data["updates_per_step"] = updates_per_step
    per_batch = data["steps_per_batch"] * data.get("num_envs", 1)
    data |= {
        "warmup_steps": WARMUP_STEPS, "training_starts": None, "eval_episodes": EPISODES,
        "batches_per_epoch": max(1, round(EVALUATE_EVERY / per_batch)),
    }  # fmt: skip
    return model, data, learner


def run(name: str, preset: str, env: str, env_steps: int, seed: int, updates_per_step: float | None) -> None:
    """Train once and append the curve."""
    model, data, learner = settings(preset, updates_per_step)
    lightning.seed_everything(seed, verbose=False)
    module = getattr(lit_rl, learner)(**model, threads=1, matmul_precision="medium")
    curve = Curve()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_epochs=-1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        callbacks=[EnvStepBudget(env_steps), curve],
    )  # fmt: skip
    trainer.fit(module, datamodule=ReplayDataModule(**(data | {"env": env})))
    line = {
        "name": name, "env": env, "env_steps": env_steps, "seed": seed, "updates": module.updates,
        "curve": curve.points,
    }  # fmt: skip
    with LINES.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(name, env, seed, curve.points[-1], flush=True)


def read() -> list[dict[str, Any]]:
    """Read what was run so far."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """Return mean and half of the 95 % interval (Student); infinite for one value."""
    if len(values) < 2:
        return statistics.mean(values), math.inf
    half = STUDENT_95[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), half


def difference(values: Sequence[float], others: Sequence[float]) -> str:
    """Show the difference of two means with its 95 % interval, by the smaller degrees of freedom (Welch)."""
    if min(len(values), len(others)) < 2:
        return "one seed"
    variance = sum(statistics.variance(each) / len(each) for each in (values, others))
    half = STUDENT_95[min(len(values), len(others)) - 1] * math.sqrt(variance)
    shift = statistics.mean(values) - statistics.mean(others)
    verdict = "" if abs(shift) <= half else ", zero is outside"
    return f"{shift:+.0f} +- {half:.0f}{verdict}"


def at(line: dict[str, Any], column: int, limit: float) -> float | None:
    """Return the return of the last evaluation whose env steps (0) or CPU seconds (2) are within a limit."""
    within = [point[1] for point in line["curve"] if point[column] <= limit]
    return within[-1] if within else None


def shown(values: Sequence[float]) -> str:
    """Show mean and interval."""
    mean, half = mean_and_half(values)
    return f"{mean:.0f} +- {half:.0f}" if math.isfinite(half) else f"{mean:.0f}"


def compared(values: Sequence[float | None], others: Sequence[float | None]) -> list[str]:
    """Show returns, and what they are above those of SAC; a run may have no evaluation so early."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return ["not evaluated so early", ""]
    of_sac = [value for value in others if value is not None]
    return [shown(known), difference(known, of_sac) if of_sac else ""]


def table() -> str:
    """Make the table of all environments."""
    rows = [
        "Mean of greedy returns over seeds with 95 % interval (Student); `python "
        "tests/benchmarks/bench_sac_variants.py table`. `@5`: five updates per env step in place of the "
        "preset's. Equal steps and equal CPU time are those that every run of the environment reached.",
    ]
    lines = read()
    for env in dict.fromkeys(line["env"] for line in lines):
        of_env = [line for line in lines if line["env"] == env]
        steps = min(line["curve"][-1][0] for line in of_env)
        seconds = min(line["curve"][-1][2] for line in of_env)
        rows += [
            "",
            f"| {env} | seeds | return at {steps:,.0f} steps | minus SAC "
            f"| return after {seconds:.0f} s of CPU | minus SAC | ms of CPU per update |",
            "|---|---|---|---|---|---|---|",
        ]
        by_name = {n: [x for x in of_env if x["name"] == n] for n in dict.fromkeys(x["name"] for x in of_env)}
        of_sac = by_name.get("sac", [])
        for name, runs in by_name.items():
            cells = [name, str(len(runs))]
            for column, limit in ((0, steps), (2, seconds)):
                values = [at(line, column, limit) for line in runs]
                others = [at(line, column, limit) for line in of_sac]
                cells += compared(values, others if name != "sac" else [])
            cost = [1e3 * line["curve"][-1][2] / line["updates"] for line in runs]
            rows.append(f"| {' | '.join(cells)} | {statistics.mean(cost):.1f} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("preset")
    running.add_argument("--env", default="HalfCheetah-v5")
    running.add_argument("--env_steps", type=int, default=50_000)
    running.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    running.add_argument("--updates_per_step", type=float)
    commands.add_parser("table")
    args = parser.parse_args()
    if args.command == "table":
        text = table()
        sys.stdout.write(text)
        TABLE.write_text(text)
        return
    quiet()
    suffix = "" if args.updates_per_step is None else f"@{args.updates_per_step:g}"
    name = args.preset + suffix
    done = {(line["name"], line["env"], line["env_steps"], line["seed"]) for line in read()}
    for seed in args.seeds:
        if (name, args.env, args.env_steps, seed) not in done:
            run(name, args.preset, args.env, args.env_steps, seed, args.updates_per_step)


if __name__ == "__main__":
    main()
