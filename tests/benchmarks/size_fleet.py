"""How many actors one learner can use, and what travels: ``python -m tests.benchmarks.size_fleet``.

Trains a configuration briefly in this process and measures a rollout of one actor (seconds, bytes), an update
(seconds) and a version of the weights (bytes). With A actors that share the environments of a rollout of S
env steps, where one actor takes c seconds for them and the learner u, a learner that waits (lag 0) trains on
S / (c / A + u) env steps per second, and one with ``max_policy_lag: 1`` on S / max(c / A, u): beyond
A = c / u actors the learner is the limit. Every rollout comes in once, and the weights go out to each actor.
Measured with this machine's cores and no network between; bytes are those of the arrays.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl.cli import main as lit_rl
from lit_rl.collect.workers.buffer import TIME_FIELDS
from lit_rl.collect.workers.policy import lay_out
from tests.benchmarks import machine

RESULTS = Path(__file__).parent / "results" / "fleet_size.json"
MEASURED: list[dict[str, float]] = []
CONFIGS = {"ppo_halfcheetah": 8 * 256 * 4, "map_elites/shared_ppo": 256 * 40 * 4}
NO_SEARCH = ["--trainer.callbacks.generations", "1", "--trainer.callbacks.every_batches", "1000"]
ACTORS = (1, 2, 4, 8, 16, 32, 64)


class MeasuresBatch(Callback):
    """Keeps seconds and bytes of each batch."""

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Look at the rollout."""
        self._start = time.perf_counter()
        self._row = {
            "env_steps": float(batch["new_steps"]),
            "collect_s": float(batch["collect_s"]),
            "rollout_bytes": float(sum(_bytes(batch[key]) for key in TIME_FIELDS)),
        }

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the update."""
        weights = lay_out([*pl_module.parameters(), *pl_module.buffers()]).size
        MEASURED.append(
            {**self._row, "update_s": time.perf_counter() - self._start, "weights_bytes": float(weights)}
        )


def _bytes(tree: Any) -> int:
    if isinstance(tree, dict):
        return sum(map(_bytes, tree.values()))
    return tree.nbytes if isinstance(tree, torch.Tensor) else 0


def measure(config: str) -> dict[str, float]:
    """Train briefly; return medians over the batches but the first, which compiles and allocates."""
    from tests.benchmarks import size_fleet  # the copy that the command line imports, not __main__

    size_fleet.MEASURED.clear()
    with tempfile.TemporaryDirectory() as folder:
        lit_rl(
            ["fit", "--config", config, "--trainer.default_root_dir", folder, "--trainer.logger", "false",
             "--trainer.limit_val_batches", "0", "--model.threads", "1", "--seed_everything", "3",
             "--budget.total_env_steps", str(CONFIGS[config]),
             *(NO_SEARCH if config.startswith("map_elites") else []),
             "--trainer.callbacks+=tests.benchmarks.size_fleet.MeasuresBatch"]
        )  # fmt: skip
    rows = size_fleet.MEASURED[1:]
    return {name: float(torch.tensor([row[name] for row in rows]).median()) for name in rows[0]}


def table(found: dict[str, float]) -> list[dict[str, float]]:
    """Return what each number of actors gives, and what travels per second with lag 1."""
    rows = []
    for actors in ACTORS:
        waiting_s = found["collect_s"] / actors + found["update_s"]
        ahead_s = max(found["collect_s"] / actors, found["update_s"])
        rows.append(
            {
                "actors": actors,
                "env_steps_per_s_lag_0": found["env_steps"] / waiting_s,
                "env_steps_per_s_lag_1": found["env_steps"] / ahead_s,
                "rollouts_MB_per_s": found["rollout_bytes"] / ahead_s / 1e6,
                "weights_per_s": 1 / ahead_s,
                "weights_MB_per_s": actors * found["weights_bytes"] / ahead_s / 1e6,
            }
        )
    return rows


def main() -> None:
    """Measure, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    out, begin, report = parser.parse_args().out, machine.load(), {}
    for config in CONFIGS:
        found = measure(config)
        rows, limit = table(found), found["collect_s"] / found["update_s"]
        report[config] = {"measured": found, "learner_is_the_limit_from_actors": limit, "table": rows}
        print(f"\n{config}: a rollout of {found['env_steps']:,.0f} env steps takes one actor "
              f"{found['collect_s']:.3f} s and has {found['rollout_bytes'] / 1e6:.2f} MB; an update takes "
              f"{found['update_s']:.3f} s; weights have {found['weights_bytes'] / 1e3:.0f} kB.\n"
              f"The learner is the limit from {limit:.1f} actors on (lag 1): "
              f"{found['env_steps'] / found['update_s']:,.0f} env steps/s.")  # fmt: skip
        print(f"{'actors':>6} {'lag 0, steps/s':>15} {'lag 1, steps/s':>15} {'rollouts, MB/s':>15} "
              f"{'weights, 1/s':>13} {'weights, MB/s':>14}")  # fmt: skip
        for row in rows:
            print(f"{row['actors']:>6} {row['env_steps_per_s_lag_0']:>15,.0f} "
                  f"{row['env_steps_per_s_lag_1']:>15,.0f} {row['rollouts_MB_per_s']:>15.2f} "
                  f"{row['weights_per_s']:>13.2f} {row['weights_MB_per_s']:>14.2f}")  # fmt: skip
    written = {"machine": machine.describe(), "start": begin, "end": machine.load(), "configs": report}
    out.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
