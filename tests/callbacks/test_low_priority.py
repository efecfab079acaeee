from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from lit_rl.callbacks import low_priority

CHILD = "from lit_rl.callbacks.low_priority import {0}; {0}(); print('ready', flush=True); input()"
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
    low_priority.lower_children()
    assert Path(f"/proc/{process.pid}/autogroup").read_text().endswith("nice 10\n")
    end(process)


def test_the_kernel_is_asked_again_when_it_is_busy(monkeypatch: pytest.MonkeyPatch):
    calls = []

    def write_text(path: Path, text: str) -> None:
        calls.append((str(path), text))
        if len(calls) < 3:
            raise BlockingIOError

    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(low_priority.time, "sleep", lambda seconds: None)
    low_priority._lower_session(7)
    assert calls == [("/proc/7/autogroup", "10")] * 3


def test_without_such_groups_nothing_happens(monkeypatch: pytest.MonkeyPatch):
    def write_text(path: Path, text: str) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "write_text", write_text)
    low_priority._lower_session(7)
