"""The recorder process and everything that may happen to it. All processes are ended by the fixtures."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lit_rl.callbacks.recorder import client
from lit_rl.callbacks.recorder.client import Recorder, start_recorder
from lit_rl.callbacks.recorder.reader import read_losses
from lit_rl.callbacks.recorder.settings import Settings
from lit_rl.processes import STOP_SIGNALS
from tests.conftest import ROOT
from tests.processes import is_alive, wait_until

TIMEOUT_S = 30


@pytest.fixture
def start(tmp_path):
    """Start a recorder; in the end its process is killed, so that no test waits for the last figure."""
    started: list[Recorder] = []

    def start_one(directory: Path | None = tmp_path / "x_loss_log", **settings) -> Recorder:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        started.append(Recorder(Settings("x", str(tmp_path), **settings), directory))
        return started[-1]

    yield start_one
    for recorder in started:
        recorder.close()
        pid = recorder.process_id
        if pid is not None and recorder._thread.is_alive():
            os.kill(pid, signal.SIGKILL)
        assert recorder.wait()


def log(recorder: Recorder, steps: range, network: str = "ppo") -> None:
    for step in steps:
        recorder.record(network, step, {"actor_loss": float(step)})


def wait_for(recorder: Recorder, **totals: int) -> None:
    def arrived() -> bool:
        return totals.items() <= recorder.totals.items()

    wait_until(arrived, TIMEOUT_S, lambda: f"{recorder.totals} instead of {totals}")


def wait_for_at_least(recorder: Recorder, written: int) -> None:
    wait_until(lambda: recorder.totals["written"] >= written, TIMEOUT_S, lambda: str(recorder.totals))


def state(recorder: Recorder) -> dict:
    assert recorder.directory is not None
    return json.loads((recorder.directory / "recorder.json").read_text())


def assert_identity(recorder: Recorder, rows: int) -> None:
    """Offered = written + dropped + invalid, and what is written is in the files exactly once."""
    assert recorder.directory is not None
    totals = recorder.totals
    assert totals["offered"] == rows == totals["written"] + totals["dropped"] + totals["invalid"]
    steps = read_losses(recorder.directory, "ppo").steps
    assert len(steps) == len(set(steps)) == totals["written"]


def test_rows_are_on_disk_when_close_returns(start):
    recorder = start()
    assert recorder.is_alive
    log(recorder, range(1500))
    assert recorder.close() == {"offered": 1500, "written": 1500, "dropped": 0, "invalid": 0}
    assert not recorder.is_alive
    assert_identity(recorder, 1500)
    written = state(recorder)
    assert written["state"] == "finished"
    assert {key: written[key] for key in recorder.totals} == recorder.totals
    statistics = json.loads((recorder.directory / "ppo_stats.json").read_text())
    assert statistics["losses"]["actor_loss"]["trend"] == "rising"


def test_starting_does_not_wait(start):
    begin = time.perf_counter()
    start()
    assert time.perf_counter() - begin < 0.05


def test_invalid_rows_are_counted_and_told_once(start, caplog):
    recorder = start()
    for bad in ({"loss": "0.5"}, {"loss": None}, {}, {"loss": [1.0]}, None, {"step": 1.0}):
        recorder.record("ppo", 1, bad)
    recorder.record("../ppo", 1, {"loss": 1.0})
    recorder.record("ppo", "one", {"loss": 1.0})
    recorder.record("ppo", 1, {"loss": 1.0})
    assert recorder.close() == {"offered": 9, "written": 1, "dropped": 0, "invalid": 8}
    invalid, summary = caplog.messages
    assert "counted as invalid" in invalid
    assert "offered 9 = written 1 + dropped 0 + invalid 8 rows" in summary


def test_losses_may_change_after_the_call(start):
    recorder = start()
    losses = {"a": 1.0}
    recorder.record("ppo", 1, losses)
    losses["a"] = 2.0
    recorder.close()
    assert read_losses(recorder.directory, "ppo").losses == {"a": [1]}


def test_burst_keeps_the_identity_of_counts(start, caplog):
    recorder = start()
    log(recorder, range(300_000))
    assert recorder.totals["dropped"] > 0
    recorder.close(TIMEOUT_S)
    assert recorder.totals["written"] >= 50_000
    assert_identity(recorder, 300_000)
    assert {key: state(recorder)[key] for key in recorder.totals} == recorder.totals
    dropped = [text for text in caplog.messages if "the queue of 50000 rows (queue_size) is full" in text]
    assert len(dropped) == 1


def test_many_threads_keep_the_identity_of_counts(start):
    recorder = start(queue_size=100)
    threads = [
        threading.Thread(target=log, args=(recorder, range(1000 * i, 1000 * (i + 1)))) for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close(TIMEOUT_S)
    assert_identity(recorder, 8000)


def test_killed_recorder_is_restarted_three_times(start, caplog, monkeypatch):
    recorder = start()
    for killed in range(4):
        log(recorder, range(100 * killed, 100 * (killed + 1)))
        wait_for(recorder, written=100 * (killed + 1))
        os.kill(recorder.process_id, signal.SIGKILL)
    log(recorder, range(400, 500))
    wait_for(recorder, written=500)
    assert recorder.process_id is None
    assert recorder.restarts == 4
    assert recorder.close() == {"offered": 500, "written": 500, "dropped": 0, "invalid": 0}
    assert_identity(recorder, 500)
    assert [text.rpartition("; ")[2] for text in caplog.messages] == [
        *["it is restarted"] * 3,
        "the trainer writes by itself now, without figures",
    ]
    assert "status -9" in caplog.messages[0]
    assert (state(recorder)["state"], state(recorder)["restarts"]) == ("finished", 4)
    assert (
        json.loads((recorder.directory / "ppo_stats.json").read_text())["losses"]["actor_loss"]["count"]
        == 500
    )


def test_recorder_killed_under_load_writes_nothing_twice(start):
    recorder = start(queue_size=200_000)
    log(recorder, range(20_000))
    for written in (1, 8000):
        wait_for_at_least(recorder, written)
        os.kill(recorder.process_id, signal.SIGKILL)
    recorder.close(TIMEOUT_S)
    assert recorder.totals["written"] == 20_000
    assert_identity(recorder, 20_000)


def test_process_that_cannot_be_started(start, caplog, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    recorder = start()
    log(recorder, range(10))
    recorder.close()
    assert_identity(recorder, 10)
    assert recorder.totals["written"] == 10
    assert "not started" in caplog.messages[0]


def test_recorder_that_does_not_answer(start):
    recorder = start()
    log(recorder, range(10))
    wait_for(recorder, written=10)
    os.kill(recorder.process_id, signal.SIGSTOP)
    log(recorder, range(10, 20))
    begin = time.monotonic()
    recorder.close(timeout_s=0.2)
    assert time.monotonic() - begin < 5
    assert recorder.totals["written"] == 20
    assert_identity(recorder, 20)


def test_full_disk_is_told_once_and_counted(start, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(client, "RETRY_S", 0.01)
    (tmp_path / "x_loss_log").mkdir()
    (tmp_path / "x_loss_log" / "ppo_losses.csv").symlink_to("/dev/full")
    recorder = start(queue_size=100)
    log(recorder, range(1000))
    recorder.close()
    assert recorder.totals == {"offered": 1000, "written": 0, "dropped": 1000, "invalid": 0}
    told = [text for text in caplog.messages if "No space left on device" in text]
    assert len(told) == 1
    assert "training goes on, lost rows are counted" in told[0]
    assert state(recorder)["dropped"] == 1000


def test_disk_with_space_again(start, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(client, "RETRY_S", 0.01)
    (tmp_path / "x_loss_log").mkdir()
    full = tmp_path / "x_loss_log" / "ppo_losses.csv"
    full.symlink_to("/dev/full")
    recorder = start()
    log(recorder, range(1000))
    wait_until(lambda: caplog.messages, TIMEOUT_S, lambda: "no warning")
    full.unlink()
    recorder.close()
    assert recorder.totals["written"] == 1000
    assert_identity(recorder, 1000)


def test_unwritable_log_dir(tmp_path, caplog):
    (tmp_path / "file").touch()
    recorder = start_recorder(Settings("x", str(tmp_path / "file" / "logs")))
    log(recorder, range(10))
    assert recorder.close() == {"offered": 10, "written": 0, "dropped": 10, "invalid": 0}
    warning, summary = caplog.messages
    assert "no directory can be made in log_dir" in warning
    assert "Not a directory" in warning
    assert "dropped 10" in summary
    assert not recorder.is_alive
    assert recorder.wait()


def test_directory_removed_during_the_run(start, caplog):
    recorder = start()
    log(recorder, range(10))
    wait_for(recorder, written=10)
    for path in recorder.directory.iterdir():
        path.unlink()
    recorder.directory.rmdir()
    recorder.record("sac", 1, {"loss": 1.0})
    recorder.close()
    assert recorder.totals == {"offered": 11, "written": 10, "dropped": 1, "invalid": 0}


def test_rows_after_the_end_are_dropped(start):
    recorder = start()
    recorder.close()
    assert not recorder.record("ppo", 1, {"loss": 1.0})
    assert recorder.totals == {"offered": 1, "written": 0, "dropped": 1, "invalid": 0}


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # of Python 3.12
def test_forked_process_records_nothing(start):
    recorder = start()
    log(recorder, range(10))
    wait_for(recorder, written=10)
    pid = os.fork()
    if pid == 0:
        try:
            taken = recorder.record("ppo", 99, {"actor_loss": 1.0})
            alive = recorder.is_alive
            recorder.close()
            os._exit(1 if taken or alive else 0)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    log(recorder, range(10, 20))
    recorder.close()
    assert_identity(recorder, 20)


# Trainers that are processes of their own

TRAINER = """
import subprocess, sys, time
from lit_rl.callbacks.loss_logging import log_network_loss, start_loss_logging, stop_loss_logging
recorder = start_loss_logging("x", log_dir=sys.argv[1])
assert not {"torch", "lightning", "numpy", "matplotlib"} & {*sys.modules}
if sys.argv[2] == "held":
    while recorder.process_id is None:
        time.sleep(0.01)
    subprocess.Popen(["sleep", "60"], pass_fds=[recorder._link._process.pipes[0]])
step = 0
try:
    while sys.argv[2] != "exit" or step < 300:
        log_network_loss("ppo", step, {"actor_loss": step})
        step += 1
        if step == 300:
            while recorder.totals["written"] < 300:
                time.sleep(0.01)
            print(recorder.process_id, flush=True)
        time.sleep(0.001 if step > 300 else 0)
except KeyboardInterrupt:
    print(stop_loss_logging(), flush=True)
"""


@pytest.fixture
def trainer(tmp_path):
    """A script that logs until it is stopped, and its recorder process."""
    started = []

    def start_one(how: str = "forever") -> tuple[subprocess.Popen[str], psutil.Process]:
        process = subprocess.Popen(
            [sys.executable, "-c", TRAINER, str(tmp_path), how],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert process.stdout is not None
        recorder = psutil.Process(int(process.stdout.readline()))
        started.append((process, recorder))
        return process, recorder

    yield start_one
    for process, recorder in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if is_alive(recorder.pid):
            recorder.kill()
        wait_for_end(recorder)


def wait_for_end(recorder: psutil.Process) -> None:
    wait_until(lambda: not is_alive(recorder.pid), TIMEOUT_S, lambda: "the recorder process is left")


def read_state(tmp_path: Path) -> dict:
    return json.loads((tmp_path / "x_loss_log" / "recorder.json").read_text())


def test_recorder_of_a_killed_trainer_drains_and_ends(trainer, tmp_path):
    process, recorder = trainer()
    process.kill()
    wait_for_end(recorder)
    left = read_state(tmp_path)
    assert left["state"] == "producer_lost"
    assert left["written"] >= 300
    assert left["offered"] == left["written"] + left["pending"]
    steps = read_losses(tmp_path / "x_loss_log", "ppo").steps
    assert steps == list(range(left["written"]))
    assert (tmp_path / "x_loss_log" / "network_loss_curves_realtime.png").stat().st_size > 10_000


def test_recorder_ends_though_another_process_holds_its_pipe(trainer, tmp_path):
    process, recorder = trainer("held")
    process.kill()
    process.wait()
    wait_for_end(recorder)
    assert read_state(tmp_path)["state"] == "producer_lost"


def test_ctrl_c_reaches_the_trainer_only(trainer, tmp_path):
    process, recorder = trainer()
    for signum in STOP_SIGNALS:  # what a scheduler may send to every process of a job
        recorder.send_signal(signum)
    os.killpg(process.pid, signal.SIGINT)
    assert "'dropped': 0" in process.stdout.readline()
    left = read_state(tmp_path)
    assert (left["state"], left["restarts"]) == ("finished", 0)
    assert read_losses(tmp_path / "x_loss_log", "ppo").steps == list(range(left["offered"]))


def test_python_waits_for_the_last_figure_at_its_exit(trainer, tmp_path):
    process, recorder = trainer("exit")
    assert process.wait(TIMEOUT_S) == 0
    assert not is_alive(recorder.pid)
    directory = tmp_path / "x_loss_log"
    assert read_state(tmp_path)["state"] == "finished"
    (stamped,) = directory.glob("network_loss_curves_2*_??.png")
    assert stamped.read_bytes() == (directory / "network_loss_curves_realtime.png").read_bytes()
    assert not list(directory.glob(".*"))


def test_recorder_process_loads_no_torch():
    code = (
        "import sys, lit_rl.callbacks.recorder.__main__, lit_rl.callbacks.recorder.figure;"
        "print({'torch', 'lightning', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_settings_are_checked():
    with pytest.raises(ValueError, match="experiment_name must be a name without slashes, got 'a/b'"):
        Settings("a/b")
    with pytest.raises(ValueError, match="queue_size of the loss recorder must be positive, got 0"):
        Settings("a", queue_size=0)
    with pytest.raises(ValueError, match="update_interval of the loss recorder must be positive, got -1"):
        Settings("a", update_interval=-1)


def test_drops_are_told_at_most_once_a_minute(start, caplog, monkeypatch):
    recorder = start(queue_size=1)
    recorder._refuse_all("of this test")
    now = time.monotonic()
    with caplog.at_level(logging.WARNING):
        for seconds in (0, 1, 59, 61, 100, 122):
            monkeypatch.setattr(client.time, "monotonic", lambda seconds=seconds: now + seconds)
            recorder.record("ppo", 1, {"loss": 1.0})
    monkeypatch.undo()
    assert len(caplog.messages) == 3
