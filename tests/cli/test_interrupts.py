"""A command that is asked to stop before or after training cleans up as after a failure, and says so."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_rl.cli import interrupts
from lit_rl.cli.errors import Stopped
from lit_rl.cli.interrupts import Interrupts, guarded
from lit_rl.processes import STOP_SIGNALS
from tests.processes import Forked, is_group_alive, lit_rl, wait_until

TOYS = "tests.worker_toys"


@pytest.fixture(autouse=True)
def handlers_are_given_back() -> Iterator[None]:
    before = [signal.getsignal(signum) for signum in (*STOP_SIGNALS, signal.SIGUSR2)]
    yield
    assert [signal.getsignal(signum) for signum in (*STOP_SIGNALS, signal.SIGUSR2)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not [thread.name for thread in threading.enumerate() if "_watch" in thread.name]


def env(name: str, **init_args: Any) -> list[str]:
    return ["--data.env", json.dumps({"class_path": f"{TOYS}.{name}", "init_args": init_args})]


@pytest.mark.parametrize(
    ("signum", "code", "message"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
        (signal.SIGUSR1, 138, "stopped by SIGUSR1"),
        (signal.SIGINT, 130, "interrupted"),
    ],
)
@pytest.mark.parametrize("check", ["true", "false"])
def test_a_signal_while_environments_are_made_leaves_nothing(
    error: Callable[..., str], cwd: Path, signum: signal.Signals, code: int, message: str, check: str
):
    arguments = [*env("SignalsItself", signum=int(signum)), "--data.check", check]
    assert error(code, "fit", "--config", "tiny.yaml", *arguments) == message
    assert {path.name for path in cwd.iterdir()} == {"tiny.yaml"}


def test_a_signal_before_an_old_run_goes_on_leaves_the_run(
    error: Callable[..., str], fitted: Path, cwd: Path
):
    before = {path: path.stat().st_mtime_ns for path in fitted.rglob("*.ckpt")}
    arguments = ["--ckpt_path", "last", *env("SignalsItself", signum=int(signal.SIGTERM))]
    error(143, "fit", "--config", fitted / "config.yaml", *arguments)
    assert {path: path.stat().st_mtime_ns for path in fitted.rglob("*.ckpt")} == before


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with Interrupts():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_comes_twice_does_not_break_the_cleaning_up():
    cleaned = False

    def command() -> None:
        nonlocal cleaned
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            cleaned = True

    with Interrupts(), pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
        command()
    assert caught.value.code == 143
    assert cleaned


def test_it_comes_again_when_it_was_lost(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(interrupts, "_REPEAT_S", 0.0)
    with Interrupts():
        for _ in range(2):  # as in a __del__, of which Python swallows all exceptions
            with pytest.raises(Stopped):
                os.kill(os.getpid(), signal.SIGTERM)


def test_nothing_is_done_outside_the_main_thread():
    found = []

    def run() -> None:
        with Interrupts():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_dies_of_a_signal():
    with Interrupts():
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.write(writing, b"x")
            time.sleep(60)
            os._exit(0)
        os.read(reading, 1)
        os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        time.sleep(0.1)  # its signal must not be taken for one to this process


def test_another_thread_ends_the_command_by_an_error():
    is_over = threading.Event()

    def told() -> None:
        threading.Timer(0.1, interrupts.tell, [ValueError("rank 1 failed"), is_over, 60]).start()
        time.sleep(60)

    with Interrupts(), pytest.raises(ValueError, match="rank 1 failed"):
        told()
    is_over.set()


def test_sigusr2_alone_does_nothing():
    with Interrupts():
        os.kill(os.getpid(), signal.SIGUSR2)


def test_what_is_guarded_is_entered_and_left():
    class Context:
        def __enter__(self) -> str:
            return "entered"

        def __exit__(self, *error: object) -> None:
            left.append(error[0])

    for outer in (Interrupts(), threading.Lock()):  # inside a command, and without one
        left: list[Any] = []
        with outer, guarded(Context()) as entered:
            assert entered == "entered"
        assert left == [None]


def fit_that_is_soon_stuck(*argv: str) -> None:
    """``lit-rl``, with less patience for a main thread that does not notice a signal."""
    interrupts._STUCK_S = 0.3
    lit_rl(*argv)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_main_thread_that_is_stuck_in_c_is_not_waited_for(
    cwd: Path, tmp_path: Path, signum: signal.Signals, code: int
):
    ready = tmp_path / "ready"
    arguments = ["--config", "tiny.yaml", *env("StuckInC", ready=str(ready)), "--data.check", "false"]
    forked = Forked(fit_that_is_soon_stuck, "fit", *arguments, cwd=cwd, log=tmp_path / "log")
    try:
        wait_until(ready.exists, 60, forked.output)
        assert (cwd / "runs").exists()
        os.kill(forked.pid, signum)
        assert forked.exit_code(20) == code, forked.output()
        assert not is_group_alive(forked.pid)
    finally:
        forked.kill()
    assert "lit-rl: error: " + ("interrupted" if code == 130 else "stopped by SIGTERM") in forked.output()
    assert not (cwd / "runs").exists()


def test_a_hanging_environment_ends_the_run_with_a_checkpoint(error: Callable[..., str], cwd: Path):
    workers = ["--data.vectorization", "async", "--data.num_workers", "1", "--data.step_timeout_s", "1"]
    message = error(1, "fit", "--config", "tiny.yaml", *env("HangsAt", at=24), *workers, "--run_dir", "run")
    expected = (
        "the worker process of HangsAt (environments 0 to 1) did not answer step() within step_timeout_s = 1 "
    )
    assert expected in message
    assert {path.name for path in (cwd / "run" / "checkpoints").iterdir()} == {"interrupted.ckpt"}
    assert json.loads((cwd / "run" / "process.json").read_text())["state"] == "failed"
