"""One policy for all bodies against a policy for each, at equal total env steps.

``python -m tests.benchmarks.bench_population`` trains on 32 random planar arms of three to six joints, eight
environments each, with each of three seeds (of the bodies, too):

- ``independent``: ``PopulationPPO``, each body its own policy (``configs/population_ppo_arm.yaml``).
- ``shared``: ``PPO``, one policy that also sees the body (``morph``), with minibatches of the same number of
  gradient steps per rollout.

Both play the same bodies, and the same number of steps. At each evaluation the greedy policies play the same
512 episodes: 16 for every body. Printed are success within 5 cm and the distance that is left over the reach
of the arm, at the end, and the ratio of both: how many times as often shared succeeds, and how many times as
far independent is away. It replaces a claim of 2.7 times that nobody had measured. The results are
``results/population.json``, ``results/population.csv`` and ``results/population.png``; ``--draw`` only draws.

``--speed`` times the update of one rollout instead: that of the population, and those of as many PPOs one
after the other, on the same samples; seconds of the processor, medians of five rounds that take turns.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np
import torch

from lit_rl import PPO, PopulationPPO, RolloutDataModule
from lit_rl.algos.population.members import check_environments, of_members, samples_of_members
from lit_rl.callbacks import EnvStepBudget
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested
from lit_rl.ranks import Ranks
from lit_rl.types import Learner

WAYS = ("shared", "independent")
BODIES, ENVS, STEPS, EPISODES = 32, 256, 40, 16
RESULTS = Path(__file__).parent / "results" / "population"
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "limit_val_batches": 0, "num_sanity_val_steps": 0,
}  # fmt: skip
MEASURES = ("is_within_5cm", "is_success", "distance_per_reach")


def settings(way: str, seed: int) -> dict[str, Any]:
    """The arms that a way is trained on: the same bodies, which one of them sees and the other numbers."""
    told = {"morph": True} if way == "shared" else {"fixed_bodies": True}
    return {"joints": [3, 4, 5, 6], "num_bodies": BODIES, "body_seed": seed, **told}


class Evaluated(L.Callback):
    """Plays 16 episodes with every body, at the start and every so many batches."""

    def __init__(self, way: str, seed: int, every: int) -> None:
        self.rows: list[dict[str, Any]] = []
        self._way, self._seed, self._every = way, seed, every
        arms = settings(way, seed)
        self._arms = PlanarArms(BODIES * EPISODES, record=MEASURES, **arms)
        self._arms.set_bodies(self._arms.bodies)  # environment i has body i % 32, in both ways

    def _play(self, learner: Learner) -> None:
        last = evaluate(learner, self._arms, 1_000_000 + self._seed)["last_values"]
        values = {name: float(last[name].mean()) for name in MEASURES}
        of_body = last["is_within_5cm"].numpy().reshape(EPISODES, BODIES).mean(0)
        row = {"way": self._way, "seed": self._seed, "env_steps": learner.env_steps, **values}
        self.rows.append(row | {"bodies_above_half": float(np.mean(of_body > 0.5))})

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._play(pl_module)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.policy_version % self._every == 0:
            self._play(pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        if self.rows[-1]["env_steps"] != pl_module.env_steps:
            self._play(pl_module)


def run(way: str, seed: int, env_steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train once: what is reached at the end, and the rows of the curve."""
    L.seed_everything(seed, verbose=False)
    shared: dict[str, Any] = {
        "hidden": (64, 64), "learning_rate": 2e-3, "anneal_env_steps": env_steps, "update_epochs": 5,
        "gamma": 0.95, "gae_lambda": 0.95, "value_norm": True, "threads": 1,
    }  # fmt: skip
    model = PPO(**shared, batch_size=2048) if way == "shared" else PopulationPPO(**shared, batch_size=64)
    data = RolloutDataModule(
        "PlanarArm-v0", ENVS, STEPS, 30, env_kwargs=settings(way, seed), seed=seed, check=False
    )
    batches = -(-env_steps // (ENVS * STEPS))
    watch = Evaluated(way, seed, max(1, batches // 15))
    start = time.perf_counter()
    trainer = L.Trainer(max_epochs=-1, callbacks=[EnvStepBudget(env_steps), watch], **QUIET)
    trainer.fit(model, datamodule=data)
    last = watch.rows[-1]
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in last.items()}
    return found | {"seconds": round(time.perf_counter() - start, 1)}, watch.rows


def speed() -> None:
    """Time the gradient steps of a rollout, of all members together and of one after the other."""
    arms = make_vector_env("PlanarArm-v0", ENVS, env_kwargs=settings("independent", 0))
    torch.set_num_threads(1)
    population = PopulationPPO(spec=arms.spec, hidden=(64, 64), batch_size=64, update_epochs=5)
    population.configure_model()
    rollout = InlineCollector(arms, 0).collect(population, STEPS, 0)
    index_VE = check_environments(rollout["obs"][population.key], BODIES, population.key)
    seen = [{k: v for k, v in rollout[of].items() if k != population.key} for of in ("obs", "final_obs")]
    parts, ranks = of_members(rollout, index_VE, *seen), Ranks()
    together, _ = samples_of_members(population.policies, parts, ranks)
    alone = [map_nested(lambda leaf: leaf[:, m].contiguous(), together) for m in range(BODIES)]  # noqa: B023
    optimizer = population.configure_optimizers()
    singles = [population.member(m) for m in range(BODIES)]
    adams = [single.configure_optimizers() for single in singles]

    def one_by_one() -> None:
        for single, adam, samples in zip(singles, adams, alone, strict=True):
            single.policy.optimize(samples, None, adam, ranks, 64)  # type: ignore[arg-type]  # a FlatAdam

    ways = {
        "together": lambda: population._optimize(together, optimizer, ranks, 1.0),  # type: ignore[arg-type]
        "one by one": one_by_one,
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, call in ways.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        print(f"{name}: {1e3 * medians[name]:.0f} ms ({1e3 * min(values):.0f} to {1e3 * max(values):.0f})")
    print(f"ratio {medians['one by one'] / medians['together']:.2f}")


def draw(path: Path) -> None:
    """Draw success and distance over env steps: a line per way, its seeds as a band."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(path.with_suffix(".csv").open()))
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.3), layout="constrained")
    for axis, name, title in zip(
        axes,
        ("is_within_5cm", "distance_per_reach"),
        ("success within 5 cm", "distance left / reach"),
        strict=True,
    ):
        for way, color in zip(WAYS, ("#3465a4", "#c4650a"), strict=True):
            own = [row for row in rows if row["way"] == way]
            at = sorted({int(row["env_steps"]) for row in own})
            values = [[float(row[name]) for row in own if int(row["env_steps"]) == k] for k in at]
            axis.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.2)
            axis.plot(at, [statistics.fmean(v) for v in values], color=color, label=way)
        axis.set(title=title, xlabel="env steps of all bodies together", ylim=(0, None))
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=9)
    figure.savefig(path.with_suffix(".png"), dpi=130)
    plt.close(figure)


def main() -> None:
    """Run both ways with all seeds, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env-steps", type=int, default=3_000_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--draw", action="store_true")
    parser.add_argument("--speed", action="store_true")
    arguments = parser.parse_args()
    if arguments.speed:
        speed()
        return
    if arguments.draw:
        draw(arguments.out)
        return
    runs, curves = [], []
    for seed in arguments.seeds:
        for way in WAYS:
            found, rows = run(way, seed, arguments.env_steps)
            runs.append(found)
            curves += rows
            print(json.dumps(found), flush=True)
    of = {way: [row for row in runs if row["way"] == way] for way in WAYS}
    pairs = list(zip(of["shared"], of["independent"], strict=True))
    ratios = {
        "success_within_5cm": [a["is_within_5cm"] / max(b["is_within_5cm"], 1e-9) for a, b in pairs],
        "distance": [b["distance_per_reach"] / a["distance_per_reach"] for a, b in pairs],
        "seconds": [b["seconds"] / a["seconds"] for a, b in pairs],
    }
    print("| way | success within 5 cm | within 2 cm | distance left / reach | s |\n|---|---|---|---|---|")
    for way, own in of.items():
        cells = [
            f"{statistics.fmean(values):.3g} ({min(values):.3g} to {max(values):.3g})"
            for name in (*MEASURES, "seconds")
            for values in [[row[name] for row in own]]
        ]
        print("| " + " | ".join([way, *cells]) + " |")
    for name, values in ratios.items():
        print(f"{name}: shared is {statistics.fmean(values):.2f} times as good ({min(values):.2f} to "
              f"{max(values):.2f})")  # fmt: skip
    with arguments.out.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(curves[0]), lineterminator="\n")
        writer.writeheader()
        for row in curves:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    content = {
        "command": f"python -m tests.benchmarks.bench_population --env-steps {arguments.env_steps} --seeds "
        + " ".join(map(str, arguments.seeds)),
        "bodies": BODIES,
        "runs": runs,
        "ratios": {name: [round(value, 3) for value in values] for name, values in ratios.items()},
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    draw(arguments.out)


if __name__ == "__main__":
    main()
