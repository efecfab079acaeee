"""Whether workers on Ray survive, and train as processes do: ``python -m tests.benchmarks.bench_fleet``.

A cluster of two nodes with one CPU each is started on this machine, on loopback. ``ppo_halfcheetah`` and
``map_elites/shared_ppo`` are trained briefly, with two workers and lag 0: with ``collector: workers``, with
``collector: ray`` on the cluster, and there once more while a worker is killed after the second batch. Two
runs are equal where every tensor of the last checkpoint and the whole archive are, bit for bit. Results go
to ``tests/benchmarks/results/fleet.json``, and the exit status is 1 where a target is missed. ``--only``
trains some of the configurations, and keeps what the file says of the others.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from tests.benchmarks import machine

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results" / "fleet.json"
STEPS = {"ppo_halfcheetah": 8 * 256 * 6, "map_elites/shared_ppo": 256 * 40 * 8}
"""Env steps of a run."""
SEARCH = {"generations": 4, "every_batches": 2, "remeasure_every": 2}
SHORT = {
    "ppo_halfcheetah": ["--data.rollouts_per_epoch", "3", "--data.eval_episodes", "2"],
    "map_elites/shared_ppo": [
        "--data.rollouts_per_epoch", "4", "--data.eval_episodes", "16",
        *(f"--trainer.callbacks.{name}={value}" for name, value in SEARCH.items()),
    ],
}  # fmt: skip


class KillsWorker(Callback):
    """Kills the second worker after the second batch, as a full machine would."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Kill it once."""
        if trainer.global_step and pl_module.policy_version == 2:
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            os.kill(data.environments.collector.workers.pids[1], signal.SIGKILL)


@contextmanager
def cluster() -> Iterator[str]:
    """Start two nodes of one CPU each, and yield their address."""
    folder = Path("/tmp/ray")  # where Ray keeps the files of clusters
    is_new = not folder.exists()
    os.environ |= {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }  # fmt: skip
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        made.add_node(num_cpus=1, node_ip_address="127.0.0.1")
        yield made.address
    finally:
        made.shutdown()
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)


def train(config: str, collector: str, folder: Path, *more: str) -> dict[str, Any]:
    """Train briefly in a process of its own, and return what came of it."""
    folder.mkdir(parents=True)
    command = [
        sys.executable, "-m", "lit_rl", "fit", "--config", config, "--seed_everything", "3",
        "--budget.total_env_steps", str(STEPS[config]), "--data.collector", collector,
        "--data.num_workers", "2", "--trainer.default_root_dir", str(folder), *SHORT[config], *more,
    ]  # fmt: skip
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(done.stdout[-2000:], done.stderr[-4000:])
    row = {"exit_status": done.returncode, "seconds": round(time.perf_counter() - start, 1)}
    return row if done.returncode else row | _found(folder)


def _found(folder: Path) -> dict[str, Any]:
    """Digest of the last checkpoint's tensors and of the archive, env steps, and workers replaced."""
    last = max(folder.rglob("*.ckpt"), key=lambda path: path.stat().st_mtime)
    content = torch.load(last, weights_only=True)
    digest = hashlib.sha256()
    for name, value in sorted(content["state_dict"].items()):
        if isinstance(value, torch.Tensor):
            digest.update(name.encode() + value.contiguous().numpy().tobytes())
    found: dict[str, Any] = {"weights": digest.hexdigest()[:16]}
    for archive in folder.rglob("archive.csv"):
        found["archive"] = hashlib.sha256(archive.read_bytes()).hexdigest()[:16]
        found["elites"] = len(archive.read_text().splitlines()) - 1
    rows = [row for path in folder.rglob("metrics.csv") for row in csv.DictReader(path.open())]
    restarts = [float(row["collector/restarts"]) for row in rows if row.get("collector/restarts")]
    found["restarts"] = int(max(restarts, default=0))
    found["env_steps"] = int(content["global_step"])  # of Lightning, which is that of env steps here
    return found


def main() -> None:
    """Run everything, print the verdict and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--only", nargs="+", choices=tuple(STEPS), default=tuple(STEPS), help="these alone")
    given = parser.parse_args()
    out, begin, is_fine = given.out, machine.load(), True
    rows = json.loads(out.read_text())["configs"] if given.only != tuple(STEPS) and out.exists() else {}
    with (
        tempfile.TemporaryDirectory(prefix="fleet_", dir="/tmp") as name,
        cluster() as address,
    ):
        on_ray = ("--data.ray_address", address)
        kill = ("--trainer.callbacks+=tests.benchmarks.bench_fleet.KillsWorker",)
        for config in given.only:
            folder = Path(name) / config.replace("/", "_")
            runs = {
                "workers": train(config, "workers", folder / "workers"),
                "ray": train(config, "ray", folder / "ray", *on_ray),
                "ray, a worker killed": train(config, "ray", folder / "killed", *on_ray, *kill),
            }
            same = all(
                runs["workers"].get(k) == runs["ray"].get(k) for k in ("weights", "archive", "env_steps")
            )
            killed = runs["ray, a worker killed"]
            survived = (
                killed["exit_status"] == 0
                and killed["restarts"] == 1
                and killed["env_steps"] == runs["workers"].get("env_steps")
            )
            equal = same and runs["ray"]["exit_status"] == 0
            is_fine &= equal and survived
            rows[config] = {"runs": runs, "equal_to_workers": equal, "survived": survived}
            print(f"{config}: equal to collector: workers at lag 0: {'yes' if equal else 'NO'}; "
                  f"survived a killed worker: {'yes' if survived else 'NO'}")  # fmt: skip
            for run, row in runs.items():
                print(f"  {run:22} {row}")
            sys.stdout.flush()
            report = {"machine": machine.describe(), "start": begin, "end": machine.load(), "configs": rows}
            out.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(0 if is_fine else 1)


if __name__ == "__main__":
    main()
