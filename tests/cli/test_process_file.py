import json
import os
import socket
from contextlib import suppress

import pytest

from lit_rl.cli.errors import CommandError
from lit_rl.cli.process_file import ProcessFile
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
