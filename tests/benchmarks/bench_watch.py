"""What watching a run costs in time and memory, compared with the same run unwatched.

``python tests/benchmarks/bench_watch.py compare [--configs ppo_cartpole sac_pendulum] [--layers
callbacks/watch]`` trains each configuration with its shipped budget, in turn with and without the layers,
every fit in a process of its own, and prints for each round and as the median of the rounds' ratios

- ``training``: wall seconds from before the first batch is collected to the end of the last one,
- ``fit``: wall seconds of ``trainer.fit``, in which the callbacks also start and end their processes,
- ``cpu``: CPU seconds of the trainer's process in ``training``; the load of other processes hardly moves it.

Runs on a shared machine differ by more than 2 %, so each round also prints what the watched run itself
counted: ``in callbacks``, seconds of the training thread inside callbacks and loggers, more than without
the layers, as a share of ``training``; and ``helpers``, CPU seconds by its end of the processes that the
callbacks had started.

Both fits must end with the same weights, or the callbacks changed what was learned.

``... memory`` runs a long PPO run with cheap settings and prints how much the trainer's memory grew after its
warm-up. ``... one CONFIG [LAYER ...]`` is a single fit, as ``run_all.py`` calls it.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from measure import quiet

CONFIGS = ("ppo_cartpole", "sac_pendulum")
LAYERS = ("callbacks/watch",)
CHEAP = {
    "model.init_args.update_epochs": 1,
    "model.init_args.hidden": [8],
    "data.init_args.eval_episodes": 1,
    "data.init_args.rollouts_per_epoch": 1000,
}
"""Settings of the memory run: many batches in little time. What they learn does not matter."""
MIB = 2**20
HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_train_epoch_end", "on_validation_end")


class Watch(Callback):
    """Reads clocks, and the trainer's memory every ``memory_every`` batches; must be the last callback."""

    def __init__(self, memory_every: int | None) -> None:
        self.memory_every = memory_every
        self.start = self.end = (0.0, 0.0)
        self.memory: list[tuple[int, float]] = []
        self.weights = ""
        self.env_steps = 0
        self.fit_seconds = self.in_callbacks = self.helpers = 0.0
        self._depth = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        for callback in trainer.callbacks:  # pyright: ignore[reportAttributeAccessIssue]
            for hook in HOOKS if callback is not self else ():
                self._count(callback, hook)
        for logger in trainer.loggers:
            self._count(logger, "log_metrics")
        self.start = clocks()

    def _count(self, owner: Any, name: str) -> None:
        """Add the seconds of this method to ``in_callbacks``, unless it is called by another such."""
        method = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._depth += 1
            start = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self._depth -= 1
                self.in_callbacks += (time.perf_counter() - start) * (self._depth == 0)

        setattr(owner, name, counted)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        """Read the clocks, and the memory now and then."""
        self.end = clocks()
        if self.memory_every is not None and pl_module.policy_version % self.memory_every == 0:
            self.memory.append((pl_module.env_steps, resident_mib()))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Remember what was learned."""
        self.env_steps = pl_module.env_steps
        times = [process.cpu_times() for process in psutil.Process().children(recursive=True)]
        self.helpers = sum(each.user + each.system for each in times)
        digest = hashlib.sha256()
        for parameter in pl_module.parameters():
            digest.update(parameter.detach().cpu().numpy().tobytes())
        self.weights = digest.hexdigest()


def clocks() -> tuple[float, float]:
    """Wall and CPU seconds at this moment."""
    return time.perf_counter(), time.process_time()


def resident_mib() -> float:
    """Memory of this process, in MiB, after what can be freed was freed."""
    gc.collect()
    return psutil.Process().memory_info().rss / MIB


def fit(config: str, layers: list[str], options: dict[str, Any], memory_every: int | None = None) -> Watch:
    """``lit-rl fit`` in this process, in the current directory."""
    from lit_rl.cli import command

    quiet()
    watch, plain_callbacks, plain_fit = Watch(memory_every), command._with_default_callbacks, Trainer.fit

    def timed_fit(*args: Any, **kwargs: Any) -> None:
        start = time.perf_counter()
        plain_fit(*args, **kwargs)
        watch.fit_seconds = time.perf_counter() - start

    names = [token for name in (config, *layers) for token in ("--config", name)]
    settings = [
        token
        for key, value in options.items()
        for token in (f"--{key}", value if isinstance(value, str) else json.dumps(value))
    ]
    with (
        mock.patch.object(command, "_with_default_callbacks", lambda given: [*plain_callbacks(given), watch]),
        mock.patch.object(Trainer, "fit", timed_fit),
    ):
        command.run(["fit", *names, "--seed_everything", "0", "--trainer.accelerator", "cpu", *settings])
    return watch


def one(config: str, layers: list[str], options: dict[str, Any]) -> dict[str, Any]:
    """Seconds of a single fit."""
    watch = fit(config, layers, options)
    wall, cpu = (end - start for start, end in zip(watch.start, watch.end, strict=True))
    return {
        "training": wall,
        "fit": watch.fit_seconds,
        "cpu": cpu,
        "in_callbacks": watch.in_callbacks,
        "helpers": watch.helpers,
        "cores_used": cpu / wall,
        "env_steps": watch.env_steps,
        "weights": watch.weights,
    }


def in_process_of_its_own(config: str, layers: list[str], options: list[str]) -> dict[str, Any]:
    """The same in a new process with one thread.

    Raises:
        SystemExit: It failed; its output is shown.
    """
    command = [sys.executable, str(Path(__file__)), "one", config, *layers, "--set", *options]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(config: str, layers: list[str], rounds: int, options: list[str]) -> dict[str, Any]:
    """Ratios of a watched to an unwatched run, over several rounds.

    Raises:
        SystemExit: The two ended with different weights.
    """
    keys = ("training", "fit", "cpu")
    ratios: dict[str, list[float]] = {key: [] for key in keys}
    shares: list[float] = []
    print(f"{config}: with {', '.join(layers)} over without", flush=True)
    for number in range(rounds):
        sides = [[], layers] if number % 2 == 0 else [layers, []]  # whoever is second may be slower
        runs = {bool(side): in_process_of_its_own(config, side, options) for side in sides}
        if runs[True]["weights"] != runs[False]["weights"]:
            sys.exit(f"{config}: the watched run learned something else than the unwatched one")
        texts = []
        for key in keys:
            ratios[key].append(runs[True][key] / runs[False][key])
            texts.append(f"{key} {runs[True][key]:.2f} / {runs[False][key]:.2f} s = {ratios[key][-1]:.4f}")
        more = runs[True]["in_callbacks"] - runs[False]["in_callbacks"]
        shares.append(more / runs[True]["training"])
        texts.append(f"in callbacks {more:.3f} s = {shares[-1]:.2%}, helpers {runs[True]['helpers']:.2f} s")
        cores = min(run["cores_used"] for run in runs.values())
        print(f"  round {number + 1}: {', '.join(texts)}; at least {cores:.2f} of a core", flush=True)
    medians = {key: statistics.median(ratios[key]) for key in keys}
    share = statistics.median(shares)
    told = ", ".join(f"{key} {value:.4f}" for key, value in medians.items())
    print(f"  median ratios: {told}; in callbacks {share:.2%} of training", flush=True)
    return {"config": config, "layers": layers, "ratios": ratios, "medians": medians, "in_callbacks": shares}


def memory(
    config: str, layers: list[str], env_steps: int, warmup: float, options: dict[str, Any]
) -> dict[str, Any]:
    """Memory of the trainer after the first ``warmup`` of the env steps, and at the end."""
    watch = fit(config, layers, CHEAP | options | {"budget.total_env_steps": env_steps}, memory_every=100)
    warm = next(mib for steps, mib in watch.memory if steps >= warmup * env_steps)
    return {
        "warm_mib": warm,
        "end_mib": watch.memory[-1][1],
        "growth_mib": watch.memory[-1][1] - warm,
        "largest_mib": max(mib for _, mib in watch.memory),
        "env_steps": watch.env_steps,
        "minutes": (watch.end[0] - watch.start[0]) / 60,
        "series": watch.memory[:: max(1, len(watch.memory) // 20)],
    }


def main() -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("compare", "one", "memory"):
        command = commands.add_parser(name)
        if name == "one":
            command.add_argument("config")
            command.add_argument("layers", nargs="*")
        else:
            command.add_argument("--layers", nargs="+", default=list(LAYERS))
        command.add_argument(
            "--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of lit-rl fit"
        )
        if name == "compare":
            command.add_argument("--configs", nargs="+", default=list(CONFIGS))
            command.add_argument("--rounds", type=int, default=5)
        if name == "memory":
            command.add_argument("--config", default="ppo_cartpole")
            command.add_argument("--env-steps", type=int, default=2_000_000)
            command.add_argument("--warmup", type=float, default=0.1, help="share of the env steps")
    args = parser.parse_args()
    torch.set_num_threads(1)
    options = dict(option.split("=", 1) for option in args.set)
    if args.command == "one":
        print(json.dumps(one(args.config, args.layers, options)))
    elif args.command == "compare":
        print(json.dumps([compare(config, args.layers, args.rounds, args.set) for config in args.configs]))
    else:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            os.chdir(folder)
            print(json.dumps(memory(args.config, args.layers, args.env_steps, args.warmup, options)))
            os.chdir("/")


if __name__ == "__main__":
    main()
