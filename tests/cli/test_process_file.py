import errno
import json
import logging
import os
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest

from lit_rl.cli.errors import CommandError
from lit_rl.cli.process_file import ProcessFile
from lit_rl.files import write_json
from lit_rl.report.process import create_time, read_state
from tests.cli.conftest import the_run


def content(directory):
    return json.loads((directory / "process.json").read_text())


def test_says_that_this_process_trains(tmp_path):
    with ProcessFile(tmp_path, 5000):
        written = content(tmp_path)
        assert read_state(tmp_path, written).name == "running"
    assert written.pop("started") == pytest.approx(content(tmp_path)["started"])
    assert written == {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "ended": None,
        "create_time": create_time(os.getpid()),
        "state": "running",
        "exit_code": None,
        "total_env_steps": 5000,
    }


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (None, "finished", 0),
        (SystemExit(0), "finished", 0),
        (SystemExit(143), "interrupted", 143),
        (KeyboardInterrupt(), "interrupted", 130),
        (SystemExit("message"), "failed", 1),
        (CommandError("wrong", 2), "failed", 2),
        (ValueError("wrong"), "failed", 1),
    ],
)
def test_says_how_it_ended(tmp_path, error, state, code):
    with suppress(BaseException), ProcessFile(tmp_path, 1):
        if error is not None:
            raise error
    written = content(tmp_path)
    assert (written["state"], written["exit_code"]) == (state, code)
    assert written["ended"] >= written["started"]
    assert [path.name for path in tmp_path.iterdir()] == ["process.json"]


def said_to_train(directory, pid, **changes):
    """``process.json`` of a process that trains."""
    process = {"host": socket.gethostname(), "create_time": create_time(pid), "state": "running"}
    write_json(directory / "process.json", {"pid": pid, **process, **changes})


def test_a_run_that_is_alive_is_not_trained_a_second_time(tmp_path):
    said_to_train(tmp_path, os.getppid())
    before = (tmp_path / "process.json").read_bytes()
    message = (
        rf"run .* is still trained by process {os.getppid()}, and two would .*: wait for its end, or end it"
    )
    with pytest.raises(CommandError, match=message) as caught, ProcessFile(tmp_path, 1):
        raise AssertionError("it must not be entered")
    assert caught.value.code == 1
    assert (tmp_path / "process.json").read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"create_time": 12345.0},  # the number was given to another process since
        {"state": "finished"},
        {"state": "interrupted"},
    ],
)
def test_a_run_whose_process_is_gone_is_trained_again(tmp_path, changes):
    said_to_train(tmp_path, os.getppid(), **changes)
    with ProcessFile(tmp_path, 1):
        assert content(tmp_path)["pid"] == os.getpid()


@pytest.mark.parametrize("pid", [2**22 + 1, -1, "1; reboot", None])
def test_a_number_that_names_no_process_is_of_none(tmp_path, pid):
    """That of a process that was killed, or whatever a torn file may hold."""
    write_json(tmp_path / "process.json", {"pid": pid, "host": socket.gethostname(), "state": "running"})
    with ProcessFile(tmp_path, 1):
        assert content(tmp_path)["pid"] == os.getpid()


def test_a_process_of_another_machine_is_warned_of(tmp_path, caplog):
    said_to_train(tmp_path, os.getppid(), host="elsewhere")
    with ProcessFile(tmp_path, 1):
        pass
    assert (
        f"was trained by process {os.getppid()} on elsewhere, which did not say that it ended" in caplog.text
    )


def test_of_two_that_start_at_once_one_is_refused(tmp_path):
    """The second waits while the first looks and writes."""
    fcntl = pytest.importorskip("fcntl")
    refused: list[BaseException] = []

    def second() -> None:
        try:
            with ProcessFile(tmp_path, 1):
                pass
        except CommandError as error:
            refused.append(error)

    thread = threading.Thread(target=second)
    first = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        assert list(tmp_path.iterdir()) == []
        said_to_train(tmp_path, os.getppid())
    finally:
        os.close(first)
    thread.join(10)
    assert len(refused) == 1


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_failure_before_training_leaves_what_was_said_of_the_run(tmp_path, has_begun):
    said_to_train(tmp_path, os.getpid(), state="interrupted", exit_code=143)
    before = (tmp_path / "process.json").read_bytes()
    with suppress(ValueError), ProcessFile(tmp_path, 1, lambda: has_begun):
        assert content(tmp_path)["state"] == "running"
        raise ValueError("wrong")
    assert ((tmp_path / "process.json").read_bytes() == before) is not has_begun
    assert content(tmp_path)["state"] == ("failed" if has_begun else "interrupted")


def test_directory_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    with ProcessFile(tmp_path / "gone", 1):
        pass
    assert len(caplog.records) == 1
    assert "process.json cannot be written: No such file or directory; lit-rl status will not" in caplog.text


def test_nothing_is_written_without_a_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ProcessFile(None, 1):
        pass
    assert list(tmp_path.iterdir()) == []


def test_fit_leaves_its_end(fitted):
    written = content(fitted)
    assert (written["state"], written["exit_code"], written["total_env_steps"]) == ("finished", 0, 128)


def test_failed_fit_leaves_its_end_with_what_was_trained(run, cwd, monkeypatch):
    steps = iter(range(3))

    def fail(self, *args):
        if next(steps) == 2:
            raise ValueError("broken")

    monkeypatch.setattr("lit_rl.callbacks.env_step_budget.EnvStepBudget.on_train_batch_end", fail)
    assert run("fit", "--config", "tiny.yaml") == 1
    assert (content(the_run(cwd))["state"], content(the_run(cwd))["exit_code"]) == ("failed", 1)


def test_run_that_trained_nothing_is_removed_with_its_process_file(run, cwd, monkeypatch):
    def fail(self, *args):
        assert (the_run(cwd) / "process.json").exists()
        raise ValueError("broken")

    monkeypatch.setattr("lit_rl.callbacks.env_step_budget.EnvStepBudget.on_train_start", fail)
    assert run("fit", "--config", "tiny.yaml") == 1
    assert not (cwd / "runs").exists()


def test_a_full_disk_leaves_no_run_that_says_it_runs(tmp_path, monkeypatch):
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with suppress(OSError), ProcessFile(tmp_path, 1):
        assert content(tmp_path)["state"] == "running"
        monkeypatch.setattr("lit_rl.cli.process_file.write_json", refuse)
        refuse()
    assert (content(tmp_path)["state"], content(tmp_path)["exit_code"]) == ("failed", 1)


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path, caplog):
    caplog.set_level(logging.INFO, "lit_rl")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ".last.ckpt.unfinished").touch()
    with ProcessFile(tmp_path, 1):
        assert list((tmp_path / "checkpoints").iterdir()) == []
    assert f"{tmp_path}: removed 1 unfinished file of a process that was killed" in caplog.text
