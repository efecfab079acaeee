"""Runs in processes of their own that are told to stop: exit status, checkpoint, and nothing left running."""

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
ENDLESS = [
    "--budget.total_env_steps",
    "1000000000",
    "--data.rollouts_per_epoch",
    "1000000",
    "--seed_everything",
    "1",
]
A_LINE_EACH_BATCH = ["--trainer.callbacks+=EnvStepsProgressBar", "--trainer.callbacks.line_interval_s", "0"]
TWO_PROCESSES = ["--config", "trainer/two_processes"]


@pytest.fixture
def start(cwd: Path) -> Iterator:
    started = []

    def call(*args: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lit_rl", "fit", "--config", "tiny.yaml", *A_LINE_EACH_BATCH, *args]
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


def wait_for_training(process: subprocess.Popen[str]) -> None:
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("env steps "):
            return
    raise AssertionError("".join(seen))


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


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_with_a_checkpoint_and_its_status(start, cwd, signum, code):
    process = start(*ENDLESS)
    wait_for_training(process)
    process.send_signal(signum)
    err = finish(process)
    assert process.returncode == code
    assert "Traceback" not in err
    assert f"{signum.name}: training stops after this batch and a checkpoint." in err
    assert load_last(cwd)["state_dict"]["_extra_state"]["env_steps"] > 0
    assert not is_group_alive(process)


@pytest.mark.ddp
@pytest.mark.parametrize("to_all", [True, False], ids=["to all ranks", "to the first rank"])
def test_signal_stops_all_ranks_together(start, cwd, to_all):
    process = start(*ENDLESS, *TWO_PROCESSES)
    wait_for_training(process)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGTERM)
    err = finish(process)
    assert process.returncode == 143
    assert "Traceback" not in err
    assert load_last(cwd)["state_dict"]["_extra_state"]["env_steps"] % 64 == 0  # 2 ranks x 2 envs x 16 steps
    assert not is_group_alive(process)


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
