"""Whether the process of a run is alive, from its ``process.json``."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from lit_rl.report.words import duration

FILE = "process.json"

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


def create_time(pid: int) -> int | None:
    """When process ``pid`` began, in clock ticks since the start of the machine.

    Together with the number it names one process, also after the number was given to another one. None when
    there is no such process (one that waits to be reaped is none), or no ``/proc``.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # from the third field on: the second may contain blanks
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(process: Mapping[str, Any]) -> bool:
    """Whether the process that wrote ``process`` on this machine still runs."""
    pid, begun = process.get("pid"), process.get("create_time")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if begun is not None:
        return create_time(pid) == begun
    try:
        os.kill(pid, 0)  # sends nothing
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def read_state(directory: Path, process: Mapping[str, Any] | None, now: float | None = None) -> State:
    """State of the run in ``directory``.

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
        return State(name, "" if name == "finished" else f"exit status {code}")
    if name != "running":
        return State("unknown", f"{FILE} holds no state, {wrote}")
    if process.get("host") != socket.gethostname():
        return State("unknown", f"process {pid} on {process.get('host')}, {wrote}")
    if is_alive(process):
        return State("running", f"process {pid}, {wrote}")
    return State("crashed", f"process {pid} is gone, {wrote}")


def last_write(directory: Path) -> float:
    """Unix time of the newest file of the run or of its checkpoints."""
    files = [*directory.iterdir(), *directory.glob("checkpoints/*")]
    return max((_modified(file) for file in files if file.is_file()), default=_modified(directory))


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # exchanged for a newer one at this moment
        return 0.0
