"""Shared by all tests: one thread, fixed seeds, no display, and the command line in a process of its own."""

from __future__ import annotations

import os

os.environ["MPLBACKEND"] = "Agg"
os.environ["WANDB_MODE"] = "offline"
os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that tests start
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # gRPC's threads, begun again in what tests fork, would end it
os.environ.pop("MUJOCO_GL", None)

import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import forked

ROOT = Path(__file__).parents[1]

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the suite runs in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where it runs under nohup


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none; with ``-m gpu``, which asks for it, it fails."""
    if torch.cuda.is_available() or "gpu" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("gpu") is not None:
            item.add_marker(pytest.mark.skip(reason="needs a GPU with CUDA"))


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Every test starts from the same random streams, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - environments of third parties draw from the global stream
    torch.manual_seed(0)
    yield
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):  # what seed_everything leaves behind
        os.environ.pop(name, None)


@pytest.fixture(autouse=True)
def start_collecting_workers_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork them, unless a test has the mark ``real_workers``: importing torch takes seconds each.

    Where there is a GPU they are real, too: a forked process cannot use what CUDA has begun.
    """
    if request.node.get_closest_marker("real_workers") is None and not torch.cuda.is_available():
        monkeypatch.setattr("lit_rl.envs.workers.worker.ModuleProcess", forked.process)


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_cli("fit", "--config", "x")`` runs ``python -m lit_rl`` in the empty folder ``tmp_path``."""

    def run(*args: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "lit_rl", *map(str, args)]
        return subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=timeout, check=False
        )

    return run
