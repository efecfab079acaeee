"""Learner and actor as users start them: two processes, either of which is killed and started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.remote.test_act import free_port
from tests.remote.toys import eventually

ROOT = Path(__file__).parents[2]
RUN = """\
model:
  class_path: SAC
  init_args: {hidden: [16]}
data:
  class_path: ReplayDataModule
  init_args:
    {env: Pendulum-v1, steps_per_batch: 50, updates_per_step: 0.2, warmup_steps: 100, batch_size: 16,
     batches_per_epoch: 10, eval_episodes: 1, capacity: 10000}
trainer: {accelerator: cpu}
checkpoint: {every_batches: 1}
"""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start("fit", "--key", "value")`` runs ``lit-rl`` in ``tmp_path``."""
    (tmp_path / "run.yaml").write_text(RUN)
    started: list[subprocess.Popen[str]] = []

    def made(*argv: Any) -> subprocess.Popen[str]:
        log = (tmp_path / f"{len(started)}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, "-m", "lit_rl", *map(str, argv)], cwd=tmp_path, stdout=log, stderr=log,
            text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        log.close()
        started.append(process)
        return process

    yield made
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def checkpoint(folder: Path) -> dict[str, Any] | None:
    path = folder / "run" / "checkpoints" / "last.ckpt"
    return torch.load(path, weights_only=True) if path.exists() else None


def steps(folder: Path) -> int:
    saved = checkpoint(folder)
    return saved["state_dict"]["_extra_state"]["env_steps"] if saved else 0


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))


REMOTE = ("--config", "run.yaml", "--config", "data/remote")
LEARNER = ("fit", *REMOTE, "--run_dir", "run", "--seed_everything", 1, "--budget.total_env_steps", 3_000)


@pytest.mark.slow
def test_both_sides_are_killed_and_go_on(start: Start, tmp_path: Path):
    """The actor starts first; it is killed once, and the learner once; no transition is lost or doubled."""
    from tests.remote.test_training import with_key

    port = free_port()
    act = ("act", "--config", "run.yaml", "--connect", f"127.0.0.1:{port}", "--name", "robot")
    actor = start(*act)
    learner = start(*LEARNER, "--data.port", port)
    eventually(lambda: steps(tmp_path) > 500, 120.0)
    actor.kill()
    actor.wait()
    actor = start(*act)
    before = steps(tmp_path)
    eventually(lambda: steps(tmp_path) > before + 500, 60.0)
    learner.kill()
    learner.wait()
    killed_at = steps(tmp_path)
    resumed = start("fit", "--config", "run/config.yaml", "--ckpt_path", "last")
    assert resumed.wait(120.0) == 0, logs(tmp_path)
    assert actor.wait(30.0) == 0, logs(tmp_path)
    assert "the learner has ended" in logs(tmp_path)
    assert "Traceback" not in logs(tmp_path)
    saved = checkpoint(tmp_path)
    assert saved is not None
    assert steps(tmp_path) >= 3_000 > killed_at
    remote, ring = with_key(saved, "remote")["remote"], with_key(saved, "ring")["ring"]
    assert remote["missing_steps"] == 0
    obs = ring["fields"]["obs"].flatten(0, 1)[: remote["inserted_steps"]]
    assert len(torch.unique(obs, dim=0)) == remote["inserted_steps"]


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_learner_that_waits_for_actors_ends_soon(start: Start, tmp_path: Path, signum: signal.Signals):
    learner = start(*LEARNER, "--data.port", 0)
    eventually(lambda: "actors are awaited at 127.0.0.1:" in logs(tmp_path), 120.0)
    time.sleep(0.5)
    os.kill(learner.pid, signum)
    began = time.monotonic()
    assert learner.wait(30.0) == 128 + signum, logs(tmp_path)
    assert time.monotonic() - began < 15.0
    assert "Traceback" not in logs(tmp_path)


@pytest.mark.slow
def test_a_busy_port_is_one_line_on_the_command_line(start: Start, tmp_path: Path):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        learner = start(*LEARNER, "--data.port", port)
        assert learner.wait(120.0) != 0
    assert f"port = {port}: nothing can listen at 127.0.0.1:{port}" in logs(tmp_path)
    assert "Traceback" not in logs(tmp_path)
