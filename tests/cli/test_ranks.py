"""Runs of two ranks from the command line: one run directory, one seed, nothing left when they fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import the_run

ROOT = Path(__file__).parents[2]
TWO_PROCESSES = ["--config", "trainer/two_processes"]


@pytest.fixture
def start(cwd: Path) -> Iterator:
    started = []

    def call(*args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lit_rl", "fit", "--config", "tiny.yaml", *args]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield call
    for process in started:
        if is_group_alive(process):
            os.killpg(process.pid, signal.SIGKILL)
        process.stderr.close()


def finish(process: subprocess.Popen[str]) -> str:
    _, err = process.communicate(timeout=60)
    return err


def is_group_alive(process: subprocess.Popen[str]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def load_last(cwd: Path) -> dict:
    return torch.load(the_run(cwd) / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.ddp
def test_ranks_share_one_run_and_one_seed(start, cwd):
    process = start(*TWO_PROCESSES)  # without a seed: the first rank draws it
    err = finish(process)
    assert process.returncode == 0, err
    assert load_last(cwd)["state_dict"]["_extra_state"]["env_steps"] == 128
    assert (the_run(cwd) / "metrics.csv").read_text().count("\n") == 3


@pytest.mark.ddp
def test_failing_ranks_leave_nothing(start, cwd):
    process = start(*TWO_PROCESSES, "--data.env", "CartPol-v1")
    err = finish(process)
    assert process.returncode != 0
    assert "lit-rl: error: " in err
    assert "Traceback" not in err
    assert not is_group_alive(process)
    assert not (cwd / "runs").exists()
