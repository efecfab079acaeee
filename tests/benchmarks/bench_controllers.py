"""Three ways to train the controller that MAP-Elites measures bodies with, at equal env steps.

``python -m tests.benchmarks.bench_controllers`` trains one PPO for planar arms of three to six joints:

- ``pretrained``: on random bodies only; the search follows with the finished policy.
- ``fine_tuned``: on random bodies for half of the env steps, then on the elites alone.
- ``co_trained``: on elites, random bodies and mutants from the start.

Env steps, generations and bodies per generation are the same for all, and so are their seeds. Of every
generation it keeps how different the bodies are that are trained on (entropy over the cells of the archive,
and mean distance of their genes), and of every tenth one the corrected QD score: all elites measured again
with the policy of that moment, on other goals and start poses than those of the search. Entropy is compared
with that of random bodies, as many, of the same run (before any search). The result is
``results/controllers.json``, ``results/controllers.csv`` (the curves) and ``results/controllers.png``.

``--env-steps`` and ``--seeds`` say how long; the rest is that of ``configs/map_elites/shared_ppo.yaml`` but
for smaller networks. ``--again`` only prints and draws what was written.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import numpy as np

from lit_rl import PPO, MorphologyDataModule
from lit_rl.callbacks import EnvStepBudget, MapElites
from lit_rl.qd.bodies import choose_bodies
from lit_rl.qd.diversity import gene_distance, genes_in_use
from lit_rl.qd.search import Search, corrected

ARMS = ("pretrained", "fine_tuned", "co_trained")
GENERATIONS, BATCH, EVERY, FRESH = 60, 64, 10, 2_000_003
RESULTS = Path(__file__).parent / "results"
QUIET: dict[str, Any] = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "limit_val_batches": 0, "num_sanity_val_steps": 0,
}  # fmt: skip
COLUMNS = (
    "training", "seed", "generation", "env_steps", "body_entropy", "gene_distance", "elite_distance",
    "coverage", "qd_score", "corrected_qd_score",
)  # fmt: skip


class Recorded(MapElites):
    """Keeps one row per generation."""

    def __init__(self, row: dict[str, Any], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rows: list[dict[str, Any]] = []
        self._row = row

    def _generation(self, search: Search) -> None:
        super()._generation(search)
        entropy, distance = self._data.diversity()
        bodies = self._data.space.decode(search.archive.genes)  # type: ignore[attr-defined]  # arms have one
        used = genes_in_use(bodies.num_joints, search.archive.num_genes, bodies.has_joint.shape[1])
        row = {
            "generation": search.generations,
            "env_steps": self._learner.env_steps,
            "body_entropy": entropy,
            "gene_distance": distance,
            "elite_distance": gene_distance(search.archive.genes, used),
            "coverage": search.archive.coverage,
            "qd_score": search.archive.qd_score,
            "corrected_qd_score": "",
        }
        if search.generations % EVERY == 0:
            fresh = corrected(search.archive, lambda genes: self._data.measure(genes, fresh=FRESH))
            row["corrected_qd_score"] = fresh.qd_score
        self.rows.append(self._row | row)


def of_random_bodies(data: MorphologyDataModule, seed: int) -> tuple[float, float]:
    """Entropy and gene distance of as many random bodies, drawn as in training; mean of 20 draws."""
    kept, rng, found = data.training_genes, np.random.default_rng(seed), []
    for _ in range(20):
        data.training_genes = choose_bodies(
            rng, data.num_envs, np.zeros((0, data.num_genes)), (0.0, 1.0, 0.0), len(data.space.joints),
            data.num_genes,
        )  # fmt: skip
        found.append(data.diversity())
    data.training_genes = kept
    entropy, distance = np.mean(found, 0)
    return float(entropy), float(distance)


def run(training: Any, seed: int, env_steps: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train once: the summary, and the rows of the curves."""
    L.seed_everything(seed, verbose=False)
    model = PPO(
        hidden=(64, 64), learning_rate=2e-3, anneal_env_steps=env_steps, batch_size=2048, update_epochs=5,
        gamma=0.95, gae_lambda=0.95, value_norm=True, threads=1,
    )  # fmt: skip
    data = MorphologyDataModule(
        256, 40, 30, rollouts_per_bodies=5, env_kwargs={"num_bodies": 512}, training=training,
        pretrain_env_steps=env_steps // 2 if training == "fine_tuned" else 0,
    )  # fmt: skip
    # the last generation with which the bodies still change lies within training
    batches = env_steps // data.env_steps_after(1)
    search = Recorded(
        {"training": training, "seed": seed}, generations=GENERATIONS, batch_size=BATCH, seed=seed,
        every_batches=max(1, batches // (GENERATIONS + 5)), compare=False,
    )  # fmt: skip
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        callbacks = [EnvStepBudget(env_steps), search]
        trainer = L.Trainer(max_epochs=-1, default_root_dir=folder, callbacks=callbacks, **QUIET)
        trainer.fit(model, datamodule=data)
        summary = json.loads((Path(folder) / "map_elites" / "summary.json").read_text())
    entropy, distance = of_random_bodies(data, seed)
    found = {
        "training": training,
        "seed": seed,
        "env_steps": summary["env_steps"],
        "evaluations": summary["evaluations"],
        "random_entropy": round(entropy, 3),
        "random_distance": round(distance, 4),
        "seconds": round(time.perf_counter() - start, 1),
    }
    return found, search.rows


def reached(run: dict[str, Any], curves: list[dict[str, Any]]) -> dict[str, Any]:
    """Add what a run reached, by its curves: at the end (ten generations for diversity), and at worst."""
    own = [row for row in curves if (row["training"], int(row["seed"])) == (run["training"], run["seed"])]
    measured = [float(row["corrected_qd_score"]) for row in own if row["corrected_qd_score"] != ""]
    entropies = [float(row["body_entropy"]) for row in own]
    distances = [float(row["gene_distance"]) for row in own]
    return run | {
        "corrected_qd_first": round(measured[0], 1),
        "corrected_qd_last": round(measured[-1], 1),
        "coverage": round(float(own[-1]["coverage"]), 3),
        "entropy_lost": round(1 - statistics.fmean(entropies[-10:]) / run["random_entropy"], 3),
        "entropy_lost_most": round(1 - min(entropies) / run["random_entropy"], 3),
        "gene_distance_lost": round(1 - statistics.fmean(distances[-10:]) / run["random_distance"], 3),
    }


def spread(rows: list[dict[str, Any]], name: str, digits: int) -> str:
    """Mean and range over seeds."""
    values = [row[name] for row in rows]
    return f"{statistics.fmean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def verdict(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Say which way is best, whether it meets the target, and how far it is ahead of others, seed by seed."""
    of = {name: [row for row in runs if row["training"] == name] for name in ARMS}
    last = {name: [row["corrected_qd_last"] for row in rows] for name, rows in of.items()}
    best = max(last, key=lambda name: statistics.fmean(last[name]))
    ahead = {
        name: [round(a - b, 1) for a, b in zip(last[best], values, strict=True)]
        for name, values in last.items()
        if name != best
    }
    return {
        "best": best,
        "entropy_lost_below_10_percent": all(row["entropy_lost"] < 0.1 for row in of[best]),
        "entropy_lost_never_10_percent": all(row["entropy_lost_most"] < 0.1 for row in of[best]),
        "corrected_qd_rises": all(row["corrected_qd_last"] > row["corrected_qd_first"] for row in of[best]),
        "ahead_of": {name: {"by": values, "interval_95": interval(values)} for name, values in ahead.items()},
    }


def interval(values: list[float]) -> list[float]:
    """Student's 95 % interval of the mean of three or more seeds."""
    student = {3: 4.30, 4: 3.18, 5: 2.78}[len(values)] if len(values) > 2 else float("nan")
    half = student * statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return [round(statistics.fmean(values) - half, 1), round(statistics.fmean(values) + half, 1)]


def draw(path: Path) -> None:
    """Draw corrected QD, entropy and gene distance over generations: a line per way, its seeds as a band."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = list(csv.DictReader(path.with_suffix(".csv").open()))
    runs = json.loads(path.with_suffix(".json").read_text())["runs"]
    colors = dict(zip(ARMS, ("#3465a4", "#c4650a", "#4e8a2a"), strict=True))
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for axis, name, title in zip(
        axes,
        ("corrected_qd_score", "body_entropy", "gene_distance"),
        ("corrected QD score", "entropy of the bodies trained on, nats", "gene distance of these bodies"),
        strict=True,
    ):
        for training, color in colors.items():
            own = [row for row in rows if row["training"] == training and row[name] != ""]
            at = sorted({int(row["generation"]) for row in own})
            values = [[float(row[name]) for row in own if int(row["generation"]) == k] for k in at]
            axis.fill_between(at, [min(v) for v in values], [max(v) for v in values], color=color, alpha=0.2)
            axis.plot(at, [statistics.fmean(v) for v in values], color=color, label=training)
        axis.set(title=title, xlabel="generation")
        axis.title.set_fontsize(10)
        axis.spines[["top", "right"]].set_visible(False)
    level = statistics.fmean(run["random_entropy"] for run in runs)
    axes[1].axhline(0.9 * level, color="#777777", linewidth=1, linestyle=":")
    axes[1].annotate("90 % of random bodies", (0.98, 0.9 * level), xycoords=("axes fraction", "data"),
                     ha="right", va="bottom", fontsize=8, color="#555555")  # fmt: skip
    axes[0].legend(frameon=False, fontsize=9, loc="lower right")
    figure.savefig(path.with_suffix(".png"), dpi=130)
    plt.close(figure)


def main() -> None:
    """Run all ways with all seeds, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env-steps", type=int, default=2_000_000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS / "controllers")
    parser.add_argument("--again", action="store_true", help="only read what was written, print and draw")
    arguments = parser.parse_args()
    path: Path = arguments.out
    if arguments.again:
        content = json.loads(path.with_suffix(".json").read_text())
        curves = list(csv.DictReader(path.with_suffix(".csv").open()))
    else:
        content = {
            "command": f"python -m tests.benchmarks.bench_controllers --env-steps {arguments.env_steps} "
            + f"--seeds {' '.join(map(str, arguments.seeds))}",
            "generations": GENERATIONS,
            "bodies_per_generation": BATCH,
            "runs": [],
        }
        curves = []
        for seed in arguments.seeds:
            for training in ARMS:
                found, rows = run(training, seed, arguments.env_steps)
                content["runs"].append(found)
                curves += rows
                print(json.dumps(reached(found, rows)), flush=True)
        with path.with_suffix(".csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for row in curves:
                writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    runs = content["runs"] = [reached(found, curves) for found in content["runs"]]
    content["verdict"] = verdict(runs)
    print("| controller | corrected QD, generation 10 | at 60 | coverage | entropy lost | at worst | s |")
    print("|---|---|---|---|---|---|---|")
    for training in ARMS:
        own = [row for row in runs if row["training"] == training]
        cells = [spread(own, name, digits) for name, digits in (
            ("corrected_qd_first", 0), ("corrected_qd_last", 0), ("coverage", 3), ("entropy_lost", 3),
            ("entropy_lost_most", 3), ("seconds", 0))]  # fmt: skip
        print("| " + " | ".join([training, *cells]) + " |")
    print(json.dumps(content["verdict"]))
    path.with_suffix(".json").write_text(json.dumps(content, indent=2) + "\n")
    draw(path)


if __name__ == "__main__":
    main()
