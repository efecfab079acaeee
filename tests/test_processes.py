"""Processes of this package, their priority, and messages over pipes."""

import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from lit_rl import processes
from lit_rl.processes import (
    MAX_MESSAGE_BYTES,
    STOP_SIGNALS,
    ModuleProcess,
    allowed_cores,
    is_readable,
    pack,
    read_message,
    unpack,
    write_message,
)
from tests.processes import is_group_alive, wait_until

MODULE = "module_of_a_test"
TELLS = """\
import json, os, sys
from lit_rl.processes import is_orphaned, read_message, write_message

told = {
    "arguments": sys.argv[1:],
    "leads": os.getsid(0) == os.getpgid(0) == os.getpid(),
    "threads": os.environ["OMP_NUM_THREADS"],
    "orphaned": [is_orphaned(int(sys.argv[1])), is_orphaned(os.getpid())],
    "path": sys.path,
    "torch": "torch" in sys.modules,
}
write_message(1, told)
read_message(0)
"""
HANGS = """\
import os, subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
open(sys.argv[1], "w").close()
time.sleep(1000)
"""


# Starting and ending


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Starts code as a module; whatever it left is killed."""
    started: list[ModuleProcess] = []

    def start(code: str, *args: object, **kwargs: object) -> ModuleProcess:
        (tmp_path / f"{MODULE}.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        started.append(ModuleProcess(MODULE, *args, **kwargs))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait(10)
        process.close_pipes()


def test_a_process_knows_its_arguments_and_its_starter(run, tmp_path):
    process = run(TELLS, os.getpid(), tmp_path, has_pipes=True)
    told = read_message(process.pipes[1])
    assert told["arguments"] == [str(os.getpid()), str(tmp_path)]
    assert told["leads"]
    assert told["orphaned"] == [False, True]
    assert not told["torch"]
    assert process.poll() is None
    process.close_pipes()  # its stdin ends
    assert process.wait(10) == 1  # EOFError
    assert process.poll() == 1


def test_a_process_imports_what_this_one_does_and_not_the_working_directory(run, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "json.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(elsewhere)
    told = read_message(run(TELLS, os.getpid(), has_pipes=True).pipes[1])
    assert str(tmp_path) in told["path"]
    assert str(Path(processes.__file__).parents[1]) in told["path"]
    assert str(elsewhere) not in told["path"]


def test_modules_beside_the_script_of_a_user_are_not_taken_for_those_of_python(run, tmp_path, monkeypatch):
    for name in ("types", "random", "queue"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)")
    (tmp_path / "own.py").write_text("NUMBER = 7")
    monkeypatch.setenv("PYTHONPATH", "")
    assert run("import own, queue, random, sys, types; sys.exit(own.NUMBER)").wait(20) == 7
    below = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import random']))"
    assert run(below).wait(20) == 0  # nor by what such a process starts


def test_there_is_one_way_to_start_a_process():
    root = Path(processes.__file__).parent
    files = [*root.rglob("*.py"), *(root / "callbacks").resolve().rglob("*.py")]
    starts = {path.name for path in files if re.search(r"Popen\(|sys\.executable", path.read_text())}
    assert starts == {"processes.py"}


@pytest.mark.parametrize(("is_background", "threads"), [(True, "1"), (False, "7")])
def test_a_process_beside_the_trainer_has_one_thread(run, monkeypatch, is_background, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    process = run(TELLS, 1, has_pipes=True, is_background=is_background)
    assert read_message(process.pipes[1])["threads"] == threads


def test_a_process_that_does_the_work_of_the_trainer_has_one_thread_unless_told(run, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    process = run(TELLS, 1, has_pipes=True, is_background=False)
    assert read_message(process.pipes[1])["threads"] == "1"


@pytest.mark.parametrize("is_background", [True, False])
def test_only_processes_in_the_foreground_print(run, capfd, is_background):
    assert (
        run("print('seen'); import sys; sys.stderr.write('too')", is_background=is_background).wait(10) == 0
    )
    assert tuple(capfd.readouterr()) == (("", "") if is_background else ("seen\n", "too"))


def test_file_descriptors_are_handed_over_and_no_others(run, pipe):
    os.set_inheritable(pipe[1], True)
    code = "import os, sys\ntry: os.write(int(sys.argv[1]), b'x')\nexcept OSError: sys.exit(5)"
    assert run(code, pipe[1], pass_fds=[pipe[1]]).wait(10) == 0
    assert os.read(pipe[0], 9) == b"x"
    assert run(code, pipe[1]).wait(10) == 5


def test_kill_ends_the_whole_group(run, tmp_path):
    process = run(HANGS, tmp_path / "ready")
    wait_until((tmp_path / "ready").exists, 10, lambda: "it does not start")
    with pytest.raises(TimeoutError, match=f"process {process.pid} still runs after 0.01 s"):
        process.wait(0.01)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    wait_until(lambda: not is_group_alive(process.pid), 10, lambda: "its child is left")
    process.kill()  # nothing is left to do


def test_kill_ends_what_a_dead_process_left(run, tmp_path):
    process = run(HANGS, tmp_path / "ready")
    wait_until((tmp_path / "ready").exists, 10, lambda: "it does not start")
    os.kill(process.pid, signal.SIGKILL)
    process.kill()
    assert process.wait(10) == -signal.SIGKILL
    wait_until(lambda: not is_group_alive(process.pid), 10, lambda: "its child is left")


def test_a_process_that_cannot_start_raises(run, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(FileNotFoundError):
        run("pass")


def test_a_process_without_pipes_says_so(run):
    with pytest.raises(ValueError, match="has pipes if it was started with has_pipes=True"):
        _ = run("pass").pipes


# Signals

OUTLIVES = """\
import os, subprocess, sys, time
from lit_rl.processes import outlive_signals, read_message, write_message

outlive_signals(with_children=sys.argv[1] == "True")
sleep = "import time; print(flush=True); time.sleep(1000)"
started = subprocess.Popen([sys.executable, "-c", sleep], stdout=subprocess.PIPE)
started.stdout.readline()
reading, writing = os.pipe()
forked = os.fork()
if not forked:
    os.write(writing, b"x")
    time.sleep(1000)
os.read(reading, 1)
write_message(1, [started.pid, forked])
read_message(0)
write_message(1, "still here")
"""


@pytest.mark.parametrize("with_children", [False, True])
def test_signals_to_the_whole_job_are_outlived(run, with_children):
    process = run(OUTLIVES, with_children, has_pipes=True)
    children = [psutil.Process(pid) for pid in read_message(process.pipes[1])]
    for signum in STOP_SIGNALS:
        os.kill(process.pid, signum)
    for child in children:
        os.kill(child.pid, signal.SIGTERM)

    def are_gone() -> bool:
        return all(child.status() == psutil.STATUS_ZOMBIE for child in children)

    if with_children:
        assert not are_gone()
    else:
        wait_until(are_gone, 10, lambda: "its children do not end")
    write_message(process.pipes[0], "go on")
    assert read_message(process.pipes[1]) == "still here"
    assert process.wait(10) == 0


# Cores and priority


def test_allowed_cores(monkeypatch):
    assert allowed_cores() == len(psutil.Process().cpu_affinity())
    monkeypatch.delattr(os, "sched_getaffinity")
    assert allowed_cores() == os.cpu_count()


CHILD = "from lit_rl.processes import {0}; {0}(); print('ready', flush=True); input()"
GROUPS = Path("/proc/self/autogroup")


def start(code: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.communicate("\n", timeout=20)
    assert process.returncode == 0


def test_a_process_lowers_itself_and_its_session():
    process = start(CHILD.format("yield_to_the_trainer"))
    assert psutil.Process(process.pid).nice() == 19
    if GROUPS.exists():
        assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 10\n")
        assert (
            GROUPS.read_text() != Path(f"/proc/{process.pid}/autogroup").read_text()
        )  # not that of the tests
    end(process)


@pytest.mark.skipif(not GROUPS.exists(), reason="the kernel does not group processes by session")
def test_sessions_of_children_are_lowered():
    process = start("print('ready', flush=True); input()")
    processes.lower_children()
    assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 10\n")
    end(process)


def test_the_kernel_is_asked_again_when_it_is_busy(monkeypatch: pytest.MonkeyPatch):
    calls = []

    def write_text(path: Path, text: str) -> None:
        calls.append((str(path), text))
        if len(calls) < 3:
            raise BlockingIOError

    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)
    processes._lower_session(7)
    assert calls == [("/proc/7/autogroup", "10")] * 3


def test_without_such_groups_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    def write_text(path: Path, text: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "write_text", write_text)
    processes._lower_session(7)


# Messages


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def test_messages_come_out_as_they_went_in(pipe):
    message = {"kind": "rows", "rows": [["ppo", 1, 2.5, {"verlust ä": math.inf}]]}
    write_message(pipe[1], message)
    write_message(pipe[1], {})
    assert read_message(pipe[0]) == message
    assert read_message(pipe[0]) == {}


def test_nan_survives(pipe):
    write_message(pipe[1], {"value": math.nan})
    assert math.isnan(read_message(pipe[0])["value"])


def test_message_larger_than_a_pipe(pipe):
    message = {"rows": ["x" * 1000] * 1000}
    writer = threading.Thread(target=write_message, args=(pipe[1], message))
    writer.start()
    assert read_message(pipe[0]) == message
    writer.join()


def test_end_of_stream(pipe):
    os.write(pipe[1], pack({"kind": "close"})[:-5])
    os.close(pipe[1])
    with pytest.raises(EOFError, match="ended 5 bytes before the end of a message"):
        read_message(pipe[0])


def test_stream_out_of_step(pipe):
    os.write(pipe[1], b"\xff\xff\xff\xff\0\0\0\0")
    with pytest.raises(ValueError, match=f"at most {MAX_MESSAGE_BYTES} bytes expected, got 4294967295"):
        read_message(pipe[0])


def test_is_readable(pipe):
    assert not is_readable(pipe[0], 0)
    os.write(pipe[1], b"x")
    assert is_readable(pipe[0], 0)


def test_numbers_arrive_as_the_last_item_bit_for_bit():
    numbers = {"a": 0.1, "nan": math.nan, "inf": -math.inf, "tiny": 5e-324, "zero": -0.0, "int": 3}
    received = bytearray(pack(("row", 7), numbers) + pack(["row", None], {}))
    [(kind, step, values), empty] = unpack(received)
    assert (kind, step) == ("row", 7)
    assert list(values) == list(numbers)
    assert str(values) == str({name: float(value) for name, value in numbers.items()})
    assert empty == ["row", None, {}]
    assert not received


def test_messages_come_out_in_whatever_pieces():
    sent = [{"text": "x" * 40}, 5, None, ["nested", {"a": [1.5]}], ""]
    data = b"".join(map(pack, sent))
    received, messages = bytearray(), []
    for byte in data:
        received.append(byte)
        messages += unpack(received)
    assert messages == sent


def test_keys_that_json_does_not_know_are_left_out():
    assert unpack(bytearray(pack({"a": 1, 2: 3, (4, 5): 6}))) == [{"a": 1, "2": 3}]


def test_bytes_that_are_no_messages():
    with pytest.raises(ValueError, match=f"at most {MAX_MESSAGE_BYTES} bytes expected"):
        unpack(bytearray(b"\xff" * 8))
