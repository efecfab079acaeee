"""Runs of two ranks from the command line: one run directory, one seed, nothing left when they fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from lightning.pytorch import Trainer

from lit_rl.cli.errors import CommandError
from lit_rl.cli.ranks import Ranks
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


class Launched:
    """Stands for a trainer that has started one more rank, which kills itself or goes on."""

    def __init__(self, code: str) -> None:
        self.procs = [subprocess.Popen([sys.executable, "-c", code])]
        self.strategy = self.launcher = self  # as far as Ranks looks


GLOO = "[../third_party/gloo/gloo/transport/tcp/pair.cc:538]\nConnection closed by peer [127.0.0.1]:1"


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os; os.kill(os.getpid(), 9)", "was killed by SIGKILL"),
        ("import sys; sys.exit(3)", "ended with exit status 3"),
    ],
)
def test_a_rank_that_died_is_named_beside_the_words_of_gloo(code, how):
    ranks = Ranks(cast("Trainer", Launched(code)))
    line = rf"^rank 1 {how}, and this one cannot go on without it \(.*pair.cc:538] Connection closed by peer"
    with pytest.raises(CommandError, match=line) as caught, ranks:
        raise RuntimeError(GLOO)
    assert caught.value.code == 1
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    "error", [RuntimeError("Connection reset"), RuntimeError("another"), ValueError("b")]
)
def test_other_failures_stay_what_they_are(error, monkeypatch):
    monkeypatch.setattr("lit_rl.cli.ranks._END_S", 0.1)
    code = "import time; time.sleep(60)" if "reset" in str(error) else "import sys; sys.exit(3)"
    with pytest.raises(type(error), match=str(error)), Ranks(cast("Trainer", Launched(code))):
        raise error


def load_last(cwd: Path) -> dict:
    return torch.load(the_run(cwd) / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.ddp
def test_ranks_share_one_run_and_one_seed(start, cwd):
    process = start(*TWO_PROCESSES)  # without a seed: the first rank draws it
    err = finish(process)
    assert process.returncode == 0, err
    assert load_last(cwd)["state_dict"]["_extra_state"]["env_steps"] == 128
    assert (the_run(cwd) / "metrics.csv").read_text().count("\n") == 3


@pytest.mark.wide  # tests/test_signals.py ends failing ranks, too
@pytest.mark.ddp
def test_failing_ranks_leave_nothing(start, cwd):
    process = start(*TWO_PROCESSES, "--data.env", "CartPol-v1")
    err = finish(process)
    assert process.returncode != 0
    assert "lit-rl: error: " in err
    assert "Traceback" not in err
    assert not is_group_alive(process)
    assert not (cwd / "runs").exists()
