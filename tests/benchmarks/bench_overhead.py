"""What Lightning, logging and checkpoints cost: ``python tests/benchmarks/bench_overhead.py SIZE``.

Two learners with the same seed do the same work in lockstep, one batch each in turn. One runs as ``lit-rl
fit`` runs it: a ``Trainer`` with TensorBoard and ``metrics.csv`` loggers, step budget, signal handling,
progress bar and a checkpoint every 100 batches. The other is a bare loop of the same two functions,
``collect`` and ``training_step``, without a ``Trainer``, and with a ``finish_batch`` that only counts, so
that fetching and averaging the logged values is charged to logging. At the end both must have the same
weights, bit for bit, or nothing was compared. Evaluation is off in both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer
from measure import quiet

from lit_rl import PPO, RolloutDataModule
from lit_rl.callbacks import EnvStepBudget, EnvStepsProgressBar, GracefulStop, RolloutCheckpoint
from lit_rl.cli.curves import Curves
from lit_rl.cli.metrics_csv import MetricsCSV
from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.vector import make_vector_env

ENV = "CartPole-v1"
SIZES: dict[str, dict[str, Any]] = {
    "8x128": {"steps": 128, "batch_size": 64, "epochs": 10},  # the defaults of PPO and RolloutDataModule
    "8x128-short": {"steps": 128, "batch_size": 256, "epochs": 4},  # as little work per batch as is sensible
    "8x32": {"steps": 32, "batch_size": 256, "epochs": 20},  # settings of the rl-zoo for CartPole
}
NUM_ENVS = 8


def make_learner(size: dict[str, Any]) -> PPO:
    """PPO for one size."""
    return PPO(batch_size=size["batch_size"], update_epochs=size["epochs"], learning_rate=1e-3, threads=1)


def weights(learner: PPO) -> torch.Tensor:
    """All parameters as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in learner.parameters()])


class Bare:
    """The same collect and update in a loop of our own. It keeps its own random stream."""

    def __init__(self, size: dict[str, Any], seed: int) -> None:
        torch.manual_seed(seed)
        self.learner, self.steps = make_learner(size), size["steps"]
        self.collector = InlineCollector(make_vector_env(ENV, NUM_ENVS), seed)
        self.learner.spec = self.collector.env.spec
        self.learner.build(self.learner.spec)
        optimizer = self.learner.configure_optimizers()
        self.learner.raw_optimizers = lambda: [optimizer]
        self.learner.finish_batch = self._count
        self._random_state = torch.get_rng_state()

    def _count(self, *_: Any) -> None:
        self.learner.policy_version += 1
        self.learner.env_steps += self.steps * NUM_ENVS

    def batch(self) -> np.ndarray:
        """One batch; returns its wall and its CPU seconds."""
        theirs = torch.get_rng_state()
        torch.set_rng_state(self._random_state)
        start = clocks()
        with torch.no_grad():
            rollout = self.collector.collect(self.learner, self.steps, self.learner.policy_version)
        with torch.enable_grad():
            self.learner.training_step(rollout, 0)
        seconds = clocks() - start
        self._random_state = torch.get_rng_state()
        torch.set_rng_state(theirs)
        return seconds


def clocks() -> np.ndarray:
    """Wall and CPU seconds (of all threads) at this moment."""
    return np.array([time.perf_counter(), time.process_time()])


class Lockstep(Callback):
    """After each batch of the Trainer, one of the bare loop; all other time is the Trainer's.

    It must be the first callback, so that the work of the others after a batch falls into the Trainer's time.
    """

    def __init__(self, bare: Bare, skip: int) -> None:
        self.bare, self.skip = bare, skip
        self.full_seconds: list[np.ndarray] = []
        self.bare_seconds: list[np.ndarray] = []
        self._resumed_at: np.ndarray | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Book the Trainer's time and run the bare batch."""
        now = clocks()
        seconds = self.bare.batch()
        if self._resumed_at is not None and pl_module.policy_version > self.skip:
            self.full_seconds.append(now - self._resumed_at)
            self.bare_seconds.append(seconds)
        self._resumed_at = clocks()


def compare(size: dict[str, Any], batches: int, seed: int) -> dict[str, float]:
    """Mean milliseconds per batch of both, and the overhead in percent, of wall and of CPU time.

    Raises:
        RuntimeError: The two loops did not do the same work.
    """
    quiet()
    bare = Bare(size, seed)
    lockstep = Lockstep(bare, skip=2)
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        learner = make_learner(size)
        budget = EnvStepBudget((batches + lockstep.skip) * size["steps"] * NUM_ENVS)
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_epochs=-1,
            default_root_dir=folder,
            logger=[Curves(folder, name="", version="", flush_secs=10), MetricsCSV(Path(folder))],
            callbacks=[lockstep, budget, GracefulStop(), EnvStepsProgressBar(), RolloutCheckpoint()],
            enable_model_summary=False,
            num_sanity_val_steps=0,
            limit_val_batches=0,
        )
        data = RolloutDataModule(ENV, NUM_ENVS, size["steps"], seed=seed, check=False)
        trainer.fit(learner, datamodule=data)
    if not torch.equal(weights(learner), weights(bare.learner)):
        raise RuntimeError("the two loops ended with different weights: they did not do the same work")
    full, alone = np.mean(lockstep.full_seconds, 0), np.mean(lockstep.bare_seconds, 0)
    percent = 100 * (full / alone - 1)
    return {
        "percent": percent[0],
        "percent_of_cpu_time": percent[1],
        "full_ms": 1e3 * full[0],
        "bare_ms": 1e3 * alone[0],
        "cores_used": full[1] / full[0],
        "batches": len(lockstep.full_seconds),
    }


def main() -> None:
    """Compare one size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(compare(SIZES[args.size], args.batches, args.seed) | {"size": args.size}))


if __name__ == "__main__":
    main()
