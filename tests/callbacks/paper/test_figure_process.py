import gc
import logging
import os
import signal
import time

import psutil
import pytest

from lit_rl import processes
from lit_rl.callbacks.paper import figure_process
from lit_rl.callbacks.paper.figure_process import FigureProcess
from lit_rl.callbacks.paper.files import EPISODES, SYNC, PaperFiles
from tests.processes import wait_until

SLOW = "import time; time.sleep(60)"


@pytest.fixture
def figure():
    process = FigureProcess(0.0)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def exported(tmp_path):
    files = PaperFiles(tmp_path)
    files.write_rows(EPISODES, 8, ["1,0,2.5,4,1639123456.780,2.5,0.0,0.0"])
    files.write_rows(SYNC, 8, ["1,8,0.5,0.25,10.666666666666666"])
    files.close()
    return tmp_path


def pretend(monkeypatch, code):
    """Run ``code`` in place of drawing: the first arguments ``-P -c PROGRAM MODULE`` become ``-c CODE``."""
    popen = processes.subprocess.Popen
    started = []

    def start(command, **kwargs):
        started.append(command)
        return popen([command[0], "-c", code, *command[5:]], **kwargs)

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    return started


def test_draws_in_another_process_of_low_priority(figure, exported):
    figure.start(exported, 8)
    assert figure.is_running()
    child = psutil.Process(figure._child.pid)
    assert os.getsid(child.pid) == child.pid  # Ctrl-C of the terminal goes to the other session
    wait_until(lambda: child.nice() == 19 or not figure.is_running(), 20, lambda: "priority stays")
    figure.wait()
    assert not figure.is_running()
    assert sorted(path.suffix for path in exported.iterdir()) == [".csv", ".csv", ".png"]
    assert (exported / "sync_training_progress_step_8.png").stat().st_size > 10_000


def test_never_two_at_once(figure, exported, monkeypatch):
    started = pretend(monkeypatch, SLOW)
    figure.start(exported, 8)
    figure.start(exported, 9)
    assert len(started) == 1
    first = figure._child.pid
    figure.start_last(exported, 10)
    assert not psutil.pid_exists(first)
    assert [command[-1] for command in started] == ["8", "10"]


def test_waits_an_interval_between_two_and_before_the_first(exported, monkeypatch):
    started = pretend(monkeypatch, "pass")
    clock = [100.0]
    monkeypatch.setattr(figure_process.time, "monotonic", lambda: clock[0])
    figure = FigureProcess(60.0)
    figure.begin()
    for now in (101.0, 159.0, 160.0, 219.0, 220.0):
        clock[0] = now
        figure.start(exported, int(now))
        figure.wait()
    assert [command[-1] for command in started] == ["160", "220"]


def test_kill_leaves_nothing(figure, exported, monkeypatch):
    pretend(monkeypatch, SLOW)
    figure.start(exported, 8)
    pid = figure._child.pid
    (exported / ".sync_training_progress_step_8.png.unfinished").touch()
    figure.kill()
    assert not psutil.pid_exists(pid)
    assert not list(exported.glob(".*"))
    figure.kill()  # nothing is left to do


def test_the_end_of_the_program_waits_only_so_long(figure, exported, monkeypatch, caplog):
    pretend(monkeypatch, SLOW)
    figure.start_last(exported, 8)
    pid = figure._child.pid
    start = time.monotonic()
    with caplog.at_level(logging.WARNING, "lit_rl"):
        figure.wait(0.05)
    assert time.monotonic() - start < 5
    assert not psutil.pid_exists(pid)
    assert "did not draw sync_training_progress_step_8.png: its process took more than 0.05 s" in caplog.text


def test_a_failure_is_told_once_with_the_command_that_shows_why(figure, exported, monkeypatch, caplog):
    pretend(monkeypatch, "raise SystemExit(3)")
    with caplog.at_level(logging.WARNING, "lit_rl"):
        for step in (8, 9):
            figure.start(exported, step)
            figure.wait()
    (record,) = caplog.records
    assert "its process ended with status 3" in record.getMessage()
    assert f"python -m lit_rl.callbacks.paper.figure {exported} 8" in record.getMessage()


def test_a_process_that_cannot_start_is_told(figure, exported, monkeypatch, caplog):
    def refuse(*args, **kwargs):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(processes.subprocess, "Popen", refuse)
    with caplog.at_level(logging.WARNING, "lit_rl"):
        figure.start(exported, 8)
    assert "its process did not start: Cannot allocate memory" in caplog.text
    assert not figure.is_running()


def test_a_killed_process_is_told_and_the_next_one_starts(figure, exported, monkeypatch, caplog):
    started = pretend(monkeypatch, SLOW)
    figure.start(exported, 8)
    child = figure._child
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with caplog.at_level(logging.WARNING, "lit_rl"):
        figure.start(exported, 9)
    assert "ended with status -9" in caplog.text
    assert len(started) == 2


def test_the_last_process_is_not_forgotten_with_its_callback(exported, monkeypatch):
    pretend(monkeypatch, SLOW)
    figure = FigureProcess(0.0)
    figure.start_last(exported, 8)
    child, wait = figure._child, figure.wait
    del figure
    gc.collect()  # would warn if the process object were destroyed while it runs
    assert child is not None
    assert child.poll() is None
    wait.__self__.kill()
    wait()
