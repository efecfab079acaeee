"""Whether the process of a run is alive, from its ``process.json``."""

from __future__ import annotations

import socket
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import psutil

from lit_rl.report.words import duration, short

FILE = "process.json"

CLOCK_SLACK_S = 60.0
"""Setting the clock of the machine moves the time at which a process began, by so much at most; no number is
given to another process so soon."""

LARGEST_PID = 2**31
"""Numbers of processes are smaller on every system."""

Name: TypeAlias = Literal["running", "finished", "interrupted", "failed", "crashed", "unknown"]


class State(NamedTuple):
    """State of a run.

    Attributes:
        name: ``crashed``: it says that it runs, but its process is gone. ``unknown``: it was not started by
            the command line, or runs on another machine.
        detail: What there is to say beside it; may be empty.
    """

    name: Name
    detail: str


def create_time(pid: int) -> float | None:
    """Return the unix time at which process ``pid`` began.

    Together with the number it names one process, also after the number was given to another one. None when
    there is no such process (one that waits to be reaped is none), or when the system does not tell.
    """
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def is_alive(process: Mapping[str, Any]) -> bool:
    """Tell whether the process that wrote ``process`` on this machine still runs.

    Where it wrote no unix time of its beginning, its number alone decides. Older versions of lit_rl wrote an
    integer there, which counts clock ticks since the start of the machine.
    """
    pid, begun = process.get("pid"), process.get("create_time")
    if not isinstance(pid, int) or not 0 < pid < LARGEST_PID:
        return False
    if not isinstance(begun, float):
        return psutil.pid_exists(pid)
    now = create_time(pid)
    return now is not None and abs(now - begun) < CLOCK_SLACK_S


def read_state(directory: Path, process: Mapping[str, Any] | None, now: float | None = None) -> State:
    """Tell the state of the run in ``directory``.

    Args:
        directory: The run directory.
        process: Content of its ``process.json``; None when it has none.
        now: Unix time, for tests.
    """
    now = time.time() if now is None else now
    wrote = f"last write {duration(now - last_write(directory))} ago"
    if process is None:
        return State("unknown", f"no {FILE}, {wrote}")
    name, code, pid = process.get("state"), process.get("exit_code"), process.get("pid")
    if name in ("finished", "interrupted", "failed"):
        return State(name, "" if name == "finished" else f"exit status {short(code)}")
    if name != "running":
        return State("unknown", f"{FILE} holds no state, {wrote}")
    if process.get("host") != socket.gethostname():
        return State("unknown", f"process {short(pid)} on {short(process.get('host'))}, {wrote}")
    if is_alive(process):
        return State("running", f"process {pid}, {wrote}")
    return State("crashed", f"process {short(pid)} is gone, {wrote}")


def last_write(directory: Path) -> float:
    """Return the unix time of the newest file of the run or of its checkpoints."""
    files = [*files_in(directory), *files_in(directory / "checkpoints")]
    return max((modified for _, modified in files), default=_modified(directory))


def files_in(directory: Path) -> list[tuple[Path, float]]:
    """List the regular files in ``directory``, if it is one, each with the unix time of its last write."""
    found = []
    with suppress(OSError):
        for path in directory.iterdir():
            with suppress(OSError):  # exchanged for a newer one at this moment, or a link to nothing
                status = path.stat()
                found += [(path, status.st_mtime)] if stat.S_ISREG(status.st_mode) else []
    return found


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
