import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import lit_rl
from lit_rl.callbacks.companions import companion
from lit_rl.callbacks.companions.channel import Channel
from lit_rl.callbacks.companions.companion import Companion
from lit_rl.processes import STOP_SIGNALS
from tests.processes import is_alive, wait_until

ECHO = """\
import os, subprocess, sys
from lit_rl.callbacks.companions import companion

def main():
    channel, trainer = companion.attach()
    for message in companion.messages(channel, trainer):
        if message == "hang":
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
            channel.send(child.pid)
            os.kill(os.getpid(), 19)
        channel.send(message)
    channel.send(("end", os.nice(0), os.getsid(0) == os.getpid(), "torch" in sys.modules))

main()
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Companion]:
    (tmp_path / "echo_of_a_test.py").write_text(ECHO)
    monkeypatch.syspath_prepend(tmp_path)
    process = Companion("echo_of_a_test")
    yield process
    process.kill()


def answers(channel: Channel, number: int) -> list:
    messages: list = []
    wait_until(
        lambda: messages.extend(channel.receive()) or len(messages) >= number, 10, lambda: str(messages)
    )
    return messages


def test_finish_waits_for_what_was_sent(echo):
    assert echo.channel.send({"number": 1})
    assert echo.channel.send("two")
    *messages, end = echo.finish(10)
    assert messages == [{"number": 1}, "two"]
    assert end == ["end", 19, True, False]  # lowest priority, own session, no torch
    assert not psutil.pid_exists(echo.pid)


def test_signals_to_the_whole_job_do_not_end_it(echo):
    echo.channel.send("begun")
    assert answers(echo.channel, 1) == ["begun"]
    for signum in STOP_SIGNALS:
        os.kill(echo.pid, signum)
    assert echo.finish(10)[-1] == ["end", 19, True, False]


def test_finish_kills_what_hangs_and_its_children(echo):
    echo.channel.send("hang")
    [child] = answers(echo.channel, 1)
    start = time.monotonic()
    assert echo.finish(0.1) == []
    assert time.monotonic() - start < 5
    assert not psutil.pid_exists(echo.pid)
    wait_until(lambda: not is_alive(child), 5, lambda: f"{child} still runs")
    echo.kill()  # a second time


def test_sending_to_a_dead_companion_raises(echo):
    os.kill(echo.pid, signal.SIGKILL)
    with pytest.raises(OSError):  # noqa: PT011  # EPIPE or ECONNRESET
        wait_until(lambda: not echo.channel.send(1), 5, lambda: "it still takes messages")


def test_ends_with_its_trainer_though_a_fork_of_it_lives(tmp_path):
    (tmp_path / "echo_of_a_test.py").write_text(ECHO)
    trainer = tmp_path / "trainer.py"
    trainer.write_text(
        "import os, sys, time\n"
        "from lit_rl.callbacks.companions.companion import Companion\n"
        "pid = Companion('echo_of_a_test').pid\n"
        "fork = os.fork()\n"
        "if fork:\n"
        "    print(pid, fork, flush=True)\n"
        "time.sleep(1000)\n"
    )
    root = str(Path(lit_rl.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(tmp_path)])}
    process = subprocess.Popen([sys.executable, trainer], env=environment, stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        pid, fork = map(int, process.stdout.readline().split())
        process.kill()
        try:
            wait_until(lambda: not is_alive(pid), 10, lambda: f"{pid} still runs")
        finally:
            os.kill(fork, signal.SIGKILL)


@pytest.mark.parametrize(
    ("error", "text"),
    [(ValueError("one\ntwo"), "ValueError: one"), (KeyError(), "KeyError"), (OSError(" "), "OSError")],
)
def test_errors_are_told_in_one_line(error, text):
    assert companion.describe(error) == text
