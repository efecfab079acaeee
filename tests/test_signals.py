"""Runs that are told to stop end soon, with a checkpoint to go on from, and leave no process and no file."""

import csv
import json
import os
import pty
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch

from lit_rl.cli import interrupts, ranks
from tests.processes import Forked, commands_of_children, is_group_alive, lit_rl, wait_until

RUN = """\
model:
  class_path: PPO
  init_args: {hidden: [8], batch_size: 32, update_epochs: 1}
data:
  class_path: RolloutDataModule
  init_args: {env: CartPole-v1, num_envs: 2, rollout_steps: 32, rollouts_per_epoch: 1000000, eval_episodes: 2}
trainer: {accelerator: cpu}
checkpoint: {every_batches: 1}
budget: {total_env_steps: 1000000000}
"""
STOP_S = 30
START_S = 120
TWO_RANKS = ("--trainer.strategy", "ddp", "--trainer.devices", "2")

Fit = Callable[..., Forked]


@pytest.fixture
def fit(tmp_path: Path) -> Iterator[Fit]:
    """``fit("--key", "value")`` starts an endless run in ``tmp_path/run``."""
    (tmp_path / "run.yaml").write_text(RUN)
    started: list[Forked] = []

    def start(*argv: str, function: Callable[..., None] = lit_rl) -> Forked:
        log = tmp_path / f"{len(started)}.log"
        found = {"PYTHONPATH": str(Path(__file__).parents[1])}  # for ranks, which Lightning starts anew
        started.append(Forked(function, "fit", *argv, cwd=tmp_path, log=log, environment=found))
        return started[-1]

    yield start
    for forked in started:
        forked.kill()


def start(fit: Fit, *argv: str, function: Callable[..., None] = lit_rl) -> Forked:
    arguments = ("--config", "run.yaml", "--run_dir", "run", "--seed_everything", "1", *argv)
    return fit(*arguments, function=function)


def wait_for_training(run: Forked, directory: Path, resumed_from: int = 0) -> None:
    """Wait for the checkpoint of the first batch: then every rank has its handlers."""
    checkpoint = directory / "checkpoints" / "last.ckpt"

    def has_trained() -> bool:
        return run.process.exitcode is not None or (
            checkpoint.exists() and env_steps(directory) > resumed_from
        )

    wait_until(has_trained, START_S, run.output)
    assert run.process.exitcode is None, run.output()


def env_steps(directory: Path) -> int:
    """Of the last checkpoint."""
    checkpoint = torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"]["_extra_state"]["env_steps"]


def check_end(run: Forked, directory: Path, code: int) -> int:
    """It ended with ``code`` and a whole checkpoint, and nothing else is left. Returns the env steps done."""
    assert run.exit_code(STOP_S) == code, run.output()
    assert "Traceback" not in run.output()
    assert not is_group_alive(run.pid)
    assert [
        path.name for path in directory.rglob(".*")
    ] == []  # files that were being written begin with a dot
    assert {path.name for path in (directory / "checkpoints").iterdir()} == {
        "last.ckpt"
    }  # no validation was played
    assert [row["step"] for row in read_metrics(directory)][-1] == str(env_steps(directory))
    return env_steps(directory)


def read_metrics(directory: Path) -> list[dict[str, str]]:
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def resume(fit: Fit, *argv: str) -> Forked:
    return fit("--config", "run/config.yaml", "--ckpt_path", "last", *argv)


def check_steps(directory: Path, batch_steps: int) -> None:
    """No batch is missing, and none was logged twice."""
    steps = [int(row["step"]) for row in read_metrics(directory)]
    assert steps == list(range(batch_steps, env_steps(directory) + 1, batch_steps))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_one_process_stops_and_goes_on(fit: Fit, tmp_path: Path, signum: signal.Signals):
    run, directory = start(fit), tmp_path / "run"
    wait_for_training(run, directory)
    os.kill(run.pid, signum)
    done = check_end(run, directory, 128 + signum)
    assert f"{signum.name}: training stops after this batch and a checkpoint." in run.output()

    resumed = resume(fit, "--budget.total_env_steps", str(done + 2 * 64))
    assert resumed.exit_code(START_S) == 0, resumed.output()
    assert env_steps(directory) == done + 2 * 64
    check_steps(directory, 64)


@pytest.mark.ddp
@pytest.mark.wide
def test_two_ranks_stop_together_and_go_on(fit: Fit, tmp_path: Path):
    directory, done = tmp_path / "run", 0
    for signum, send in ((signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)):
        run = resume(fit) if done else start(fit, *TWO_RANKS)
        wait_for_training(run, directory, done)
        send(run.pid, signum)  # to all ranks, or to the first
        done = check_end(run, directory, 128 + signum)
    check_steps(directory, 2 * 64)


@pytest.mark.ddp
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_first_rank_that_ends_before_the_ranks_met_leaves_no_other(fit: Fit, tmp_path: Path):
    run = start(fit, *TWO_RANKS)
    wait_until(lambda: "lit_rl.__main__" in " ".join(commands_of_children(run.pid)), START_S, run.output)
    os.kill(run.pid, signal.SIGTERM)
    assert run.exit_code(STOP_S) == 143, run.output()
    assert "lit-rl: error: stopped by SIGTERM" in run.output()
    assert not list(tmp_path.glob("run/checkpoints/*"))  # nothing was trained
    wait_until(lambda: not is_group_alive(run.pid), START_S, run.output)


def fit_with_little_patience(*argv: str) -> None:
    """``lit-rl``, which waits half a second for what it otherwise waits five seconds for."""
    ranks._GRACE_S = interrupts._STUCK_S = 0.5
    lit_rl(*argv)


@pytest.mark.ddp
@pytest.mark.parametrize("how", ["killed before the ranks met", "failed while the first one works"])
def test_a_rank_that_ends_first_does_not_keep_the_first_one_from_cleaning_up(
    fit: Fit, tmp_path: Path, how: str
):
    is_killed = how.startswith("killed")
    environment = "CartPole-v1" if is_killed else '{"class_path": "tests.worker_toys.FailsInRank1"}'
    run = start(fit, *TWO_RANKS, "--data.env", environment, function=fit_with_little_patience)
    if is_killed:
        wait_until(lambda: "lit_rl.__main__" in " ".join(commands_of_children(run.pid)), START_S, run.output)
        for child in psutil.Process(run.pid).children():
            child.kill()
    else:
        wait_until(lambda: "(rank 1) the licence is taken" in run.output(), START_S, run.output)
    assert run.exit_code(STOP_S) == 1, run.output()
    reason = "was killed by SIGKILL" if is_killed else "ended with exit status 1"
    assert f"lit-rl: error: rank 1 {reason}; what it said is above" in run.output()
    assert "Traceback" not in run.output()
    assert not (tmp_path / "run").exists()
    wait_until(lambda: not is_group_alive(run.pid), START_S, run.output)


WORKERS = ("--data.num_workers", "2")
ASYNC = (*WORKERS, "--data.vectorization", "async")
COLLECT = (*WORKERS, "--data.collector", "workers")
WORKER_MODULES = ("lit_rl.envs.workers.process", "lit_rl.collect.workers.process")


@pytest.mark.parametrize(
    ("how", "signum"),
    [(ASYNC, signal.SIGINT), pytest.param(COLLECT, signal.SIGTERM, marks=pytest.mark.wide)],
)
def test_a_group_with_worker_processes_stops_and_goes_on(
    fit: Fit, tmp_path: Path, how: tuple[str, ...], signum: signal.Signals
):
    run, directory = start(fit, *how), tmp_path / "run"
    wait_for_training(run, directory)
    assert len(workers_of(run.pid)) == 2
    os.killpg(run.pid, signum)
    done = check_end(run, directory, 128 + signum)
    assert not workers_of(run.pid)

    resumed = resume(fit, "--budget.total_env_steps", str(done + 2 * 64))
    assert resumed.exit_code(START_S) == 0, resumed.output()
    assert "environments, random generators and data continue bit for bit" in resumed.output()
    check_steps(directory, 64)


def workers_of(pid: int) -> list[psutil.Process]:
    """Processes that step the environments of ``pid``, or collect there; they name it as their trainer."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            if set(WORKER_MODULES) & set(command) and str(pid) in command:
                found.append(process)
    return found


def fit_on_a_terminal(name: str, *argv: str) -> None:
    """``lit-rl`` on a terminal, which becomes that of its session."""
    terminal = os.open(name, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(terminal, descriptor)
    lit_rl(*argv)


def test_closing_the_terminal_saves_a_checkpoint(fit: Fit, tmp_path: Path):
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (24, 120))
    run = start(fit, function=partial(fit_on_a_terminal, os.ttyname(theirs)))
    wait_for_training(run, tmp_path / "run")
    os.close(theirs)
    shown = b""
    while b" steps [" not in shown:  # the progress bar
        shown += os.read(ours, 10_000)
    os.close(ours)  # the terminal hangs up
    check_end(run, tmp_path / "run", 129)


def fit_into_a_pipe(*argv: str) -> None:
    """``lit-rl 2>&1 | cat``; Ctrl-C ends the other command at once."""
    reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert reader.stdin is not None
    for descriptor in (1, 2):
        os.dup2(reader.stdin.fileno(), descriptor)
    reader.stdin.close()
    lit_rl(*argv)


def test_a_pipe_that_nobody_reads_any_more_does_not_spoil_the_end(fit: Fit, tmp_path: Path):
    run = start(fit, function=fit_into_a_pipe)
    wait_for_training(run, tmp_path / "run")
    os.killpg(run.pid, signal.SIGINT)
    check_end(run, tmp_path / "run", 130)


def test_second_ctrl_c_does_not_wait_for_the_batch(fit: Fit, tmp_path: Path):
    begun = {"class_path": "tests.toys.Begun", "init_args": {"path": str(tmp_path / "begun")}}
    callbacks = ("--trainer.callbacks", json.dumps([begun]))
    epochs = ("--model.update_epochs", "1000", "--model.batch_size", "2")  # the first batch takes minutes
    run = start(fit, *epochs, *callbacks)
    wait_until((tmp_path / "begun").exists, START_S, run.output)
    os.kill(run.pid, signal.SIGINT)
    wait_until(lambda: "SIGINT: training stops after this batch" in run.output(), STOP_S, run.output)
    assert run.process.exitcode is None
    os.kill(run.pid, signal.SIGINT)
    assert run.exit_code(STOP_S) == 130, run.output()
    assert "lit-rl: error: interrupted" in run.output()
    assert "Traceback" not in run.output()
    assert not is_group_alive(run.pid)
    assert not list(tmp_path.glob("run/checkpoints/*"))  # nothing was trained
