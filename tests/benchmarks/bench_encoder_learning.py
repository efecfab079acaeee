"""Do encoders that decide joint by joint learn better than a perceptron, and do they generalise better?

``python tests/benchmarks/bench_encoder_learning.py run`` trains one shared PPO with each of five encoders,
whose numbers of parameters differ by 9 % at most (widths are whole numbers), on 256 planar arms of 3, 4 and
6 joints: once with as many env steps for each (``equal_steps``), and once with as many seconds of the
processor for each (``equal_time``). The seconds become env steps beforehand, by a short training with a seed
that is not reported, so that the learning rate falls to zero at the end of each training. Every policy then
plays, as it is, the bodies of training, 256 others with the same joint counts (``unseen lengths``), and 256
with five joints, which no training has seen.

Each training appends a line to ``results/encoder_learning.jsonl``; one that is there already is not repeated.
``... table`` writes ``results/encoder_learning.md``, ``.csv`` (curves) and ``.png``.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from bench_encoders import ENCODERS, of_size, parameters
from matplotlib.figure import Figure

from lit_rl import PPO, RolloutDataModule
from lit_rl.callbacks import EnvStepBudget
from lit_rl.report.statistics import mean_interval

RESULTS = Path(__file__).parent / "results" / "encoder_learning"
SEEDS, PROBE_SEED, ENV_STEPS, SECONDS = (1, 2, 3), 99, 250_000, 30.0
BODIES, HELD_OUT_SEED, EPISODES, POINTS = 256, 10_000, 1024, 40
TRAINED, HELD_OUT_JOINTS = (3, 4, 6), (5,)
VALUES = ("is_within_5cm", "is_success", "distance_per_reach")
PLACES = {"seen": "bodies of training", "unseen_lengths": "unseen lengths", "five_joints": "five joints"}
WAYS = {"equal_steps": "equal env steps", "equal_time": "equal seconds"}
COLORS = dict(zip(ENCODERS, ("#555555", "#0072b2", "#009e73", "#d55e00", "#cc79a7"), strict=True))


class Curve(lightning.Callback):
    """Keeps how often the episodes of training ended within 5 cm, over env steps."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
        is_last = batch["truncated"] | batch["terminated"]
        if bool(is_last.any()):
            reached = batch["metrics"]["is_within_5cm"][is_last].float()
            self.points.append((pl_module.env_steps, round(float(reached.mean()), 4)))


def make_data(joints: tuple[int, ...], body_seed: int, seed: int) -> RolloutDataModule:
    """Random arms of these joint counts, with room for six joints."""
    arms = {
        "joints": list(joints), "num_bodies": BODIES, "body_seed": body_seed, "max_joints": 6,
        "layout": "tokens",
    }  # fmt: skip
    return RolloutDataModule(
        "PlanarArm-v0", num_envs=256, rollout_steps=40, rollouts_per_epoch=30, env_kwargs=arms,
        record=list(VALUES), eval_episodes=EPISODES, seed=seed,
    )  # fmt: skip


def fit(encoder: str, width: int, seed: int, env_steps: int, rate: float) -> dict[str, Any]:
    """Train once; everything that was made, and the seconds of the clock and of the processor."""
    lightning.seed_everything(seed, verbose=False)
    model = PPO(
        hidden=(64,), encoder=ENCODERS[encoder](width), share_encoder=True, learning_rate=rate,
        anneal_env_steps=env_steps, batch_size=2048, update_epochs=5, gamma=0.95, gae_lambda=0.95,
        value_norm=True, threads=1,
    )  # fmt: skip
    curve = Curve()
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, num_sanity_val_steps=0, max_epochs=-1,
        callbacks=[EnvStepBudget(env_steps), curve],
    )  # fmt: skip
    data = make_data(TRAINED, seed, seed)
    clock, processor = time.perf_counter(), time.process_time()
    trainer.fit(model, datamodule=data)
    seconds = {"seconds": time.perf_counter() - clock, "processor_s": time.process_time() - processor}
    return {"model": model, "trainer": trainer, "data": data, "curve": curve.points, **seconds}


def steps_per_second(encoder: str, width: int, rate: float) -> float:
    """Env steps per second of the processor: those of three rollouts, after a training that warms up."""
    steps = 3 * 256 * 40
    fit(encoder, width, PROBE_SEED, 256 * 40, rate)
    return steps / fit(encoder, width, PROBE_SEED, steps, rate)["processor_s"]


def train(way: str, encoder: str, width: int, seed: int, env_steps: int, rate: float) -> dict[str, Any]:
    """Train, and play on the bodies of training, on other lengths, and on arms of five joints."""
    run = fit(encoder, width, seed, env_steps, rate)
    line: dict[str, Any] = {
        "way": way, "encoder": encoder, "seed": seed, "width": width,
        "parameters": parameters(run["model"].policy.network), "env_steps": run["model"].env_steps,
        "learning_rate": rate,
        "seconds": round(run["seconds"], 1), "processor_s": round(run["processor_s"], 1),
    }  # fmt: skip
    played = {
        "seen": run["data"],
        "unseen_lengths": make_data(TRAINED, HELD_OUT_SEED, HELD_OUT_SEED),
        "five_joints": make_data(HELD_OUT_JOINTS, HELD_OUT_SEED, HELD_OUT_SEED),
    }
    for place, data in played.items():
        (found,) = run["trainer"].test(run["model"], datamodule=data, verbose=False)
        line[place] = {name: round(found[f"eval/env/{name}"], 4) for name in VALUES}
    stride = max(1, math.ceil(len(run["curve"]) / POINTS))
    line["curve"] = run["curve"][::stride]
    return line


def run(arguments: argparse.Namespace) -> None:
    """Train what is not in the file yet; the seeds come one after the other, so that each is whole early."""
    made = {name: of_size(name, arguments.parameters) for name in ENCODERS}
    sizes = {name: parameters(network) for name, (_, network) in made.items()}
    if max(sizes.values()) > 1.09 * min(sizes.values()):
        raise SystemExit(
            f"the numbers of parameters must differ by 9 % at most, got {sizes}; give other --parameters"
        )
    widths = {name: made[name][0] for name in arguments.encoders}
    done = {(line["way"], line["encoder"], line["seed"]) for line in read(arguments.out)}
    budgets: dict[str, int] = {}
    for way in arguments.ways:
        for seed in arguments.seeds:
            for name, width in widths.items():
                if (way, name, seed) in done:
                    continue
                if way == "equal_time" and name not in budgets:
                    speed = steps_per_second(name, width, arguments.learning_rate)
                    budgets[name] = int(speed * arguments.seconds)
                steps = arguments.env_steps if way == "equal_steps" else budgets[name]
                line = train(way, name, width, seed, steps, arguments.learning_rate)
                with arguments.out.with_suffix(".jsonl").open("a") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps({key: value for key, value in line.items() if key != "curve"}), flush=True)


def read(out: Path) -> list[dict[str, Any]]:
    """Read all trainings so far."""
    path = out.with_suffix(".jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _interval(values: list[float]) -> str:
    mean, low, high = (float(x) for x in mean_interval(np.array(values)))
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _difference(values: list[float]) -> str:
    _, low, high = (float(x) for x in mean_interval(np.array(values)))
    return _interval(values) + (" **" if low > 0 or high < 0 else "")


def table(lines: list[dict[str, Any]]) -> str:
    """Make the document: what each encoder reaches, and its lead over the perceptron, seed by seed."""
    text = [
        "# What encoders of robots learn, at equal numbers of parameters\n",
        "Written by `python tests/benchmarks/bench_encoder_learning.py table`. One shared PPO on "
        f"{BODIES} planar arms of 3, 4 and 6 joints; success within 5 cm in {EPISODES:,} greedy "
        "episodes on the bodies of training, on as many others, and on arms of five joints. Intervals "
        "are 95 % (Student's t over seeds); ** marks a difference whose interval does not hold zero.\n",
    ]
    for way, title in WAYS.items():
        found = {(line["encoder"], line["seed"]): line for line in lines if line["way"] == way}
        if not found:
            continue
        text += [f"## {title}\n"]
        text += ["| encoder | parameters | seeds | env steps | processor s | "
                 + " | ".join(PLACES.values()) + " |"]  # fmt: skip
        text += ["| --- " * (5 + len(PLACES)) + "|"]
        for name in ENCODERS:
            rows = [line for (encoder, _), line in found.items() if encoder == name]
            if not rows:
                continue
            steps = float(np.median([row["env_steps"] for row in rows]))
            seconds = float(np.median([row["processor_s"] for row in rows]))
            cells = [_interval([row[place]["is_within_5cm"] for row in rows]) for place in PLACES]
            seeds = " ".join(str(row["seed"]) for row in rows)
            head = f"| {name} | {rows[0]['parameters']:,} | {seeds} | {steps:,.0f} | {seconds:.0f} | "
            text.append(head + " | ".join(cells) + " |")
        text += ["", "| less the perceptron | " + " | ".join(PLACES.values()) + " |"]
        text += ["| --- " * (1 + len(PLACES)) + "|"]
        for name in list(ENCODERS)[1:]:
            seeds_of = [s for (e, s) in found if e == name and ("perceptron", s) in found]
            if len(seeds_of) < 2:
                continue
            cells = [
                _difference(
                    [
                        found[name, s][place]["is_within_5cm"]
                        - found["perceptron", s][place]["is_within_5cm"]
                        for s in seeds_of
                    ]
                )
                for place in PLACES
            ]
            text.append(f"| {name} | " + " | ".join(cells) + " |")
        text.append("")
    return "\n".join(text)


def draw(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw success in each place: a panel for each way, a mark with its interval for each encoder."""
    ways = [way for way in WAYS if any(line["way"] == way for line in lines)]
    figure = Figure(figsize=(3.9 * len(ways), 3.6), layout="constrained")
    panels = figure.subplots(1, len(ways), sharey=True, squeeze=False)[0]
    for axes, way in zip(panels, ways, strict=True):
        for k, name in enumerate(ENCODERS):
            rows = [line for line in lines if line["way"] == way and line["encoder"] == name]
            if not rows:
                continue
            values = np.array([[row[place]["is_within_5cm"] for place in PLACES] for row in rows])
            mean, low, high = (np.asarray(x) for x in mean_interval(values))
            at = np.arange(len(PLACES)) + 0.14 * (k - (len(ENCODERS) - 1) / 2)
            error = np.nan_to_num(np.stack([mean - low.clip(0, 1), high.clip(0, 1) - mean]))
            label = name.replace("_", " ")
            axes.errorbar(at, mean, error, fmt="o", color=COLORS[name], capsize=2, markersize=5, label=label)
            for row in values:
                axes.plot(at + 0.04, row, ".", color=COLORS[name], markersize=3, alpha=0.6)
        axes.set_xticks(range(len(PLACES)), [text.replace(" ", "\n", 1) for text in PLACES.values()])
        axes.set_title(WAYS[way], fontsize=10)
        axes.set_ylim(0, 1)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("success within 5 cm")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False,
                  fontsize=8)  # fmt: skip
    figure.savefig(path, dpi=160)


def main() -> None:
    """Run what is asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--encoders", nargs="+", default=list(ENCODERS), choices=list(ENCODERS))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--env_steps", type=int, default=ENV_STEPS, help="of each training at equal steps")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each training at equal time")
    parser.add_argument("--parameters", type=int, default=22_000, help="which networks come close to")
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="results, without the ending")
    arguments = parser.parse_args()
    if arguments.what == "run":
        run(arguments)
        return
    lines = read(arguments.out)
    text = table(lines)
    arguments.out.with_suffix(".md").write_text(text)
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("way", "encoder", "seed", "env_steps", "is_within_5cm"))
        for line in lines:
            key = (line["way"], line["encoder"], line["seed"])
            writer.writerows((*key, *point) for point in line["curve"])
    print(text)
    draw(lines, arguments.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
