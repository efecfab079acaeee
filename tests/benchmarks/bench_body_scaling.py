"""Does training on more bodies help on bodies that were never seen? One shared PPO over planar arms.

``python -m tests.benchmarks.bench_body_scaling run`` trains on 1, 4, 16, 64, 256 and 1,024 bodies, with as
many env steps each, and plays each policy, as it is, on 256 other bodies;
``... run --bodies 1024 --env_steps 1000000 --encoder graph_attention`` trains on one number of bodies, with a
policy that sees joints and links as a graph instead of one vector. Each training appends a line to
``results/body_scaling.jsonl``; one that is there already is not repeated. ``... table`` prints the table, and
writes ``results/body_scaling.md`` and ``results/body_scaling.png``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from matplotlib.figure import Figure

from lit_rl import PPO, RolloutDataModule
from lit_rl.callbacks import EnvStepBudget
from lit_rl.encoders.graph_attention import GraphAttentionEncoder
from lit_rl.report.statistics import mean_interval

RESULTS = Path(__file__).parent / "results"
LINES, TABLE, FIGURE = (RESULTS / f"body_scaling.{end}" for end in ("jsonl", "md", "png"))
SEEDS, BODIES, ENV_STEPS = (1, 2, 3), (1, 4, 16, 64, 256, 1024), 2_500_000
HELD_OUT, HELD_OUT_SEED, EPISODES = 256, 10_000, 2048
VALUES = {
    "is_within_5cm": "success within 5 cm",
    "is_success": "success within 2 cm",
    "distance_per_reach": "final distance / reach",
}
ENCODERS: dict[str, dict[str, Any]] = {
    "perceptron": {"hidden": (128, 128)},
    "graph_attention": {
        "hidden": (64,),
        "encoder": partial(GraphAttentionEncoder, width=28, feedforward=56),
        "share_encoder": True,
    },
}
"""Networks of the policy: 50,000 parameters in two perceptrons, or 22,000 with one encoder for both."""
POINTS = 40
"""So many points of a learning curve are kept."""


class Curve(lightning.Callback):
    """Keeps how far from the goal the episodes of training ended, over env steps."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
        is_last = batch["truncated"] | batch["terminated"]
        if bool(is_last.any()):
            distance = batch["metrics"]["distance_per_reach"][is_last]
            self.points.append((pl_module.env_steps, round(float(distance.mean()), 4)))


def make_data(encoder: str, num_bodies: int, body_seed: int, seed: int) -> RolloutDataModule:
    """Arms of 3 to 6 joints, ``num_bodies`` of them, whose bodies the policy is told."""
    arms: dict[str, Any] = {"joints": [3, 4, 5, 6], "num_bodies": num_bodies, "body_seed": body_seed}
    arms |= {"morph": True} if encoder == "perceptron" else {"layout": "tokens"}
    return RolloutDataModule(
        "PlanarArm-v0", num_envs=256, rollout_steps=40, rollouts_per_epoch=30, env_kwargs=arms,
        record=list(VALUES), eval_episodes=EPISODES, seed=seed,
    )  # fmt: skip


def train(encoder: str, num_bodies: int, seed: int, env_steps: int) -> dict[str, Any]:
    """Train on some bodies, and play on them and on others."""
    lightning.seed_everything(seed, verbose=False)
    model = PPO(
        learning_rate=2e-3, anneal_env_steps=env_steps, batch_size=2048, update_epochs=5, gamma=0.95,
        gae_lambda=0.95, value_norm=True, threads=1, **ENCODERS[encoder],
    )  # fmt: skip
    curve = Curve()
    trainer = lightning.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, limit_val_batches=0, max_epochs=-1,
        callbacks=[EnvStepBudget(env_steps), curve],
    )  # fmt: skip
    data = make_data(encoder, num_bodies, seed, seed)
    start = time.perf_counter()
    trainer.fit(model, datamodule=data)
    seconds = time.perf_counter() - start
    line: dict[str, Any] = {
        "encoder": encoder, "bodies": num_bodies, "seed": seed, "env_steps": env_steps,
        "env_steps_per_s": round(env_steps / seconds),
    }  # fmt: skip
    for where, played in (
        ("seen", data),
        ("unseen", make_data(encoder, HELD_OUT, HELD_OUT_SEED, HELD_OUT_SEED)),
    ):
        (found,) = trainer.test(model, datamodule=played, verbose=False)
        line[where] = {name: round(found[f"eval/env/{name}"], 4) for name in VALUES}
    stride = max(1, math.ceil(len(curve.points) / POINTS))
    line["curve"] = curve.points[::stride]
    return line


def run(encoder: str, bodies: list[int], seeds: list[int], env_steps: int) -> None:
    """Train what is not in the file yet; the seeds come one after the other, so that each is whole early."""
    done = {(line["encoder"], line["bodies"], line["seed"], line["env_steps"]) for line in read()}
    for seed in seeds:
        for num_bodies in bodies:
            if (encoder, num_bodies, seed, env_steps) in done:
                continue
            line = train(encoder, num_bodies, seed, env_steps)
            with LINES.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(json.dumps({name: value for name, value in line.items() if name != "curve"}), flush=True)


def read() -> list[dict[str, Any]]:
    """Read all trainings so far."""
    lines = LINES.read_text().splitlines() if LINES.exists() else []
    return [{"encoder": "perceptron", **json.loads(line)} for line in lines]  # the first lines did not say it


def _interval(values: np.ndarray) -> str:
    mean, low, high = (float(x) for x in mean_interval(values))
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def table() -> str:
    """Make the document: success after each number of bodies, and what more bodies bring for each seed."""
    lines = read()
    text = [
        "# One policy for many bodies\n",
        "Written by `python -m tests.benchmarks.bench_body_scaling table`. One shared PPO, planar arms of "
        f"3 to 6 joints; every policy plays {EPISODES:,} greedy episodes on {HELD_OUT} bodies that no "
        "training has seen. Intervals are 95 % (Student's t over seeds).\n",
    ]
    for encoder, env_steps in sorted({(line["encoder"], line["env_steps"]) for line in lines}, reverse=True):
        of_length = [line for line in lines if (line["encoder"], line["env_steps"]) == (encoder, env_steps)]
        numbers = sorted({line["bodies"] for line in of_length})
        text += [f"## {env_steps:,} env steps, {encoder.replace('_', ' ')}\n"]
        text += [
            f"| bodies | seeds | {' | '.join(VALUES.values())} | success within 5 cm, seen | env steps/s |"
        ]
        text += ["| --- " * (len(VALUES) + 4) + "|"]
        for number in numbers:
            rows = [line for line in of_length if line["bodies"] == number]
            cells = [_interval(np.array([row["unseen"][name] for row in rows])) for name in VALUES]
            seen = _interval(np.array([row["seen"]["is_within_5cm"] for row in rows]))
            speed = np.median([row["env_steps_per_s"] for row in rows])
            seeds = " ".join(str(row["seed"]) for row in rows)
            text.append(f"| {number} | {seeds} | {' | '.join(cells)} | {seen} | {speed:,.0f} |")
        text.append("")
        if {4, 256} <= set(numbers):
            found = {(line["bodies"], line["seed"]): line["unseen"]["is_within_5cm"] for line in of_length}
            seeds = [seed for number, seed in found if number == 256 and (4, seed) in found]
            gain = _interval(np.array([found[256, seed] - found[4, seed] for seed in seeds]))
            text.append(f"Success within 5 cm on unseen bodies, 256 bodies less 4, per seed: {gain}.\n")
    return "\n".join(text)


def draw() -> None:
    """Draw success on unseen and on seen bodies over the number of bodies, with the interval over seeds."""
    lines = [line for line in read() if (line["encoder"], line["env_steps"]) == ("perceptron", ENV_STEPS)]
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    numbers = sorted({line["bodies"] for line in lines})
    for where, color, marker in (("unseen", "#0072b2", "o"), ("seen", "#d55e00", "s")):
        all_values = [
            np.array([line[where]["is_within_5cm"] for line in lines if line["bodies"] == number])
            for number in numbers
        ]
        mean, low, high = np.array([[float(x) for x in mean_interval(values)] for values in all_values]).T
        label = f"{HELD_OUT} unseen bodies" if where == "unseen" else "bodies of training"
        axes.plot(numbers, mean, color=color, marker=marker, label=label)
        axes.fill_between(numbers, low.clip(0, 1), high.clip(0, 1), color=color, alpha=0.2, linewidth=0)
        for k, values in enumerate(all_values):
            axes.plot([numbers[k]] * len(values), values, ".", color=color, markersize=4, alpha=0.7)
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, [f"{number:,}" for number in numbers])
    axes.set_xlabel("bodies trained on, equal env steps")
    axes.set_ylabel("success within 5 cm")
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="best")
    figure.savefig(FIGURE, dpi=160)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--bodies", type=int, nargs="+", default=list(BODIES), help="numbers of bodies")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), help="random seeds")
    parser.add_argument("--encoder", choices=list(ENCODERS), default="perceptron", help="of the policy")
    parser.add_argument("--env_steps", type=int, default=ENV_STEPS, help="env steps of each training")
    args = parser.parse_args()
    if args.what == "run":
        run(args.encoder, args.bodies, args.seeds, args.env_steps)
        return
    text = table()
    TABLE.write_text(text)
    print(text)
    draw()


if __name__ == "__main__":
    main()
