"""Runs that are stopped and killed at random moments, many times over (minutes; ``-m slow``).

``tests/test_signals.py`` and ``tests/test_resume.py`` try chosen moments in seconds.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.cli.metrics_csv import MetricsCSV
from tests.cases import CASES
from tests.processes import Forked, is_group_alive, lit_rl, wait_until
from tests.test_resume import assert_identical, learned, load, read_metrics
from tests.test_signals import RUN, env_steps, workers_of
from tests.toys import Begun, make_trainer

pytestmark = pytest.mark.slow

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NUM_SIGNALS = 20
KILLED = ("ppo_cartpole", "ppo_memory", "mappo", "sac_pendulum", "hmasd")
NUM_KILLS = 50
BATCHES_PER_KILL = 3
"""Batches that are trained between two kills, on average."""

Start = Callable[..., Forked]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``start(function, *args)`` runs in ``tmp_path``."""
    started: list[Forked] = []

    def call(function: Callable[..., None], *args: Any) -> Forked:
        started.append(Forked(function, *args, cwd=tmp_path, log=tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield call
    for forked in started:
        forked.kill()


def shared_memory() -> set[str]:
    """Names in the shared memory of this machine."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def catches(pid: int, signum: signal.Signals) -> bool:
    """Whether a process has a handler for a signal."""
    with suppress(OSError):
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return bool(int(fields["SigCgt"], 16) >> (signum - 1) & 1)
    return False


def test_signals_to_the_group_at_random_moments_leave_nothing(start: Start, tmp_path: Path):
    (tmp_path / "run.yaml").write_text(RUN)
    moments, memory = random.Random(0), shared_memory()
    trained = 0
    for i in range(NUM_SIGNALS):
        signum, directory = SIGNALS[i % len(SIGNALS)], tmp_path / f"run{i}"
        arguments = ["--data.vectorization", "async", "--data.num_workers", "2", "--run_dir", directory.name]
        run = start(lit_rl, "fit", "--config", "run.yaml", *arguments)
        wait_until(lambda pid=run.pid: catches(pid, signal.SIGTERM), 60, run.output)
        delay_s = moments.uniform(0, 6 if i % 2 else 0.3)  # some before the first batch, however fast it is
        time.sleep(delay_s)
        os.killpg(run.pid, signum)
        what = f"{signum.name} after {delay_s:.2f} s\n"
        assert run.exit_code(30) == 128 + signum, what + run.output()
        assert not is_group_alive(run.pid), what
        wait_until(lambda pid=run.pid: not workers_of(pid), 10, lambda what=what: f"workers are left: {what}")
        assert "Traceback" not in run.output(), what + run.output()
        assert shared_memory() == memory, what
        if directory.exists():
            trained += 1
            assert env_steps(directory) > 0, what
            assert not list(directory.rglob(".*")), what
    print(f"{NUM_SIGNALS} signals, {trained} of them after the first batch")  # noqa: T201
    assert 0 < trained < NUM_SIGNALS


def train(name: str, batches: int, directory: str) -> None:
    """Train a case of ``tests/cases.py`` in one epoch, from its last checkpoint where there is one."""
    path = Path(directory)
    last = path / "checkpoints" / "last.ckpt"
    resumed = last if last.exists() else None
    seed_everything(3, verbose=False)
    module, data = CASES[name](batches)
    # killed before its first checkpoint, it begins anew, in a directory that holds a row already
    at = 0 if resumed is None else load(resumed)["state_dict"]["_extra_state"]["env_steps"]
    trainer = make_trainer(
        max_epochs=1,
        default_root_dir=path,
        logger=MetricsCSV(path, at),
        limit_val_batches=1.0,
        enable_checkpointing=True,
        callbacks=[RolloutCheckpoint(every_batches=1, save_best=False), Begun(str(path / "begun"))],
    )
    trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)


@pytest.mark.parametrize("name", KILLED)
def test_a_run_that_is_killed_many_times_equals_one_that_is_not(name: str, start: Start, tmp_path: Path):
    batches = NUM_KILLS * BATCHES_PER_KILL * 2
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for directory in (whole, killed):
        directory.mkdir()
    reference = start(train, name, batches, "whole")
    wait_until((whole / "begun").exists, 120, reference.output)
    began = time.monotonic()
    assert reference.exit_code(900) == 0, reference.output()
    batch_s = (time.monotonic() - began) / batches

    moments, in_training = random.Random(name), 0
    for kill in range(NUM_KILLS):
        (killed / "begun").unlink(missing_ok=True)
        run = start(train, name, batches, "killed")
        if kill % 5:
            wait_until((killed / "begun").exists, 120, run.output)
            in_training += 1
        time.sleep(moments.uniform(0, 2 * BATCHES_PER_KILL * batch_s))
        assert run.process.exitcode is None, f"{name} ended before kill {kill}\n{run.output()}"
        os.kill(run.pid, signal.SIGKILL)
        assert run.exit_code(30) == -signal.SIGKILL
    before = load(killed / "checkpoints" / "last.ckpt")["state_dict"]["_extra_state"]["policy_version"]
    last = start(train, name, batches, "killed")
    assert last.exit_code(900) == 0, last.output()

    print(f"{name}: {NUM_KILLS} kills, {in_training} in training, over {before} of {batches} batches")  # noqa: T201
    assert NUM_KILLS / 2 < before < batches
    assert read_metrics(killed) == read_metrics(whole)
    checkpoints = [learned(load(path / "checkpoints" / "last.ckpt")) for path in (killed, whole)]
    assert_identical(*checkpoints)
    assert isinstance(checkpoints[0]["state_dict"], dict)
    assert any(isinstance(leaf, torch.Tensor) for leaf in checkpoints[0]["state_dict"].values())
