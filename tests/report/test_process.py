import json
import os
import socket
import subprocess
import sys
import time

import pytest

from lit_rl.report.process import CLOCK_SLACK_S, create_time, is_alive, last_write, read_state
from tests.processes import wait_until
from tests.report.conftest import process_json


def this_process(**changes):
    return process_json("running", create_time=create_time(os.getpid()), **changes)


@pytest.fixture
def child():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_this_process_is_alive(tmp_path):
    assert is_alive(this_process())
    state = read_state(tmp_path, this_process())
    assert state.name == "running"
    assert state.detail.startswith(f"process {os.getpid()}, last write ")


def test_number_that_was_given_to_another_process_is_gone(tmp_path):
    recycled = process_json("running", create_time=12345.0)
    assert not is_alive(recycled)
    state = read_state(tmp_path, recycled, now=last_write(tmp_path) + 60)
    assert state == ("crashed", f"process {os.getpid()} is gone, last write 60 s ago")


def test_killed_process_is_gone_before_and_after_it_is_reaped(child):
    written = {"pid": child.pid, "create_time": create_time(child.pid)}
    assert is_alive(written)
    child.kill()
    wait_until(lambda: not is_alive(written), 10, lambda: "still alive")  # a zombie now
    child.wait()
    assert not is_alive(written)
    assert create_time(child.pid) is None


@pytest.mark.parametrize("older", [None, 12345, "damaged"])  # 12345 are clock ticks of older versions
def test_without_a_unix_time_the_number_alone_decides(child, older):
    assert is_alive({"pid": child.pid, "create_time": older})
    child.kill()
    child.wait()
    assert not is_alive({"pid": child.pid, "create_time": older})


def test_time_of_the_beginning_is_unix_time(child):
    begun = create_time(child.pid)
    assert begun == pytest.approx(time.time(), abs=30)
    assert begun == json.loads(json.dumps(begun))


def test_a_clock_that_was_set_a_little_makes_no_other_process():
    begun = this_process()["create_time"]
    assert is_alive(this_process() | {"create_time": begun - 0.9 * CLOCK_SLACK_S})
    assert not is_alive(this_process() | {"create_time": begun + 1.1 * CLOCK_SLACK_S})


@pytest.mark.parametrize("pid", [None, "7", 0, -1, 10**40])
def test_damaged_number_is_not_alive(pid):
    assert not is_alive({"pid": pid})


def test_on_another_machine_nobody_knows(tmp_path):
    state = read_state(tmp_path, this_process(host="elsewhere"), now=last_write(tmp_path) + 7200)
    assert state == ("unknown", f"process {os.getpid()} on elsewhere, last write 2.0 h ago")
    assert socket.gethostname() != "elsewhere"


@pytest.mark.parametrize(
    ("name", "code", "detail"),
    [("finished", 0, ""), ("interrupted", 143, "exit status 143"), ("failed", 1, "exit status 1")],
)
def test_ended(tmp_path, name, code, detail):
    assert read_state(tmp_path, process_json(name, exit_code=code)) == (name, detail)


def test_unknown_without_a_file_or_a_state(tmp_path):
    now = last_write(tmp_path) + 5
    assert read_state(tmp_path, None, now) == ("unknown", "no process.json, last write 5 s ago")
    assert read_state(tmp_path, {}, now) == ("unknown", "process.json holds no state, last write 5 s ago")


def test_last_write_is_that_of_the_newest_file_or_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    for name, at in (("metrics.csv", 1000), ("checkpoints/last.ckpt", 2000), ("config.yaml", 500)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (at, at))
    assert last_write(tmp_path) == 2000
