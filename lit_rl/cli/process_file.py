"""``process.json``: which process trains a run, and how it ended."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from lit_rl.cli.errors import CommandError, exit_code
from lit_rl.files import open_own, read_json, remove_unfinished, write_json
from lit_rl.report.process import FILE, create_time, is_alive
from lit_rl.report.words import plural

_log = logging.getLogger("lit_rl")


class ProcessFile:
    """Says in the run directory that this process trains, and how it ended, while it is entered as a context.

    The state is ``running``, then ``finished``, ``interrupted`` (a signal stopped it) or ``failed``. A
    process that was killed leaves ``running``; its number and the time it began tell that it is gone. A run
    whose process still lives is not entered.

    Args:
        directory: The run directory; None writes nothing.
        total_env_steps: Env steps the run is to do.
        has_begun: Tells whether anything was trained; a failure before puts back what was said of the run.

    Raises:
        CommandError: A process that still lives trains the run.
    """

    def __init__(
        self, directory: Path | None, total_env_steps: int, has_begun: Callable[[], bool] = lambda: True
    ) -> None:
        self._directory = directory
        self._has_begun = has_begun
        self._before: dict[str, Any] = {}
        self._content: dict[str, Any] = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "started": time.time(),
            "ended": None,
            "create_time": create_time(os.getpid()),
            "state": "running",
            "exit_code": None,
            "total_env_steps": total_env_steps,
        }

    def __enter__(self) -> ProcessFile:
        if self._directory is not None:
            with _locked(self._directory):  # of two that are started at the same moment one is refused
                self._before = read_json(self._directory / FILE)
                _refuse_a_second(self._directory, self._before)
                _clean(self._directory)
                self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = _code(error)
        state = "finished" if code == 0 else "interrupted" if code > 128 else "failed"
        self._content |= {"state": state, "exit_code": code, "ended": time.time()}
        if self._before and code != 0 and not self._has_begun():
            self._content = self._before
        self._write()

    def _write(self) -> None:
        """Exchange the file as a whole; training goes on where that is impossible."""
        if self._directory is None:
            return
        path = self._directory / FILE
        try:
            write_json(path, self._content)
        except OSError as error:
            if _write_in_place(path, self._content):
                return
            _log.warning(
                "%s cannot be written: %s; lit-rl status will not know this run", path, error.strerror
            )
            self._directory = None


def _write_in_place(path: Path, content: dict[str, Any]) -> bool:
    """Write over a file that is there, for which a full disk has room; return whether it could be done."""
    try:
        with open_own(path, "r+b") as file:
            file.write(json.dumps(content).encode())
            file.truncate()
    except OSError:
        return False
    return True


def _clean(directory: Path) -> None:
    """Remove what a killed process left; nobody else writes here now."""
    try:
        count = remove_unfinished(directory)
    except OSError as error:
        _log.warning("%s: what a killed process left cannot be removed: %s", directory, error.strerror)
        return
    if count:
        _log.info("%s: removed %s of a process that was killed", directory, plural(count, "unfinished file"))


def _refuse_a_second(directory: Path, process: dict[str, Any]) -> None:
    """Refuse a run that a process on this machine still trains; on another machine that cannot be known."""
    pid, host = process.get("pid"), process.get("host")
    if process.get("state") != "running":
        return
    if host != socket.gethostname():
        _log.warning(
            "%s was trained by process %s on %s, which did not say that it ended; make sure that it has",
            directory, pid, host,
        )  # fmt: skip
    elif pid != os.getpid() and is_alive(process):
        raise CommandError(
            f"run {directory} is still trained by process {pid}, and two would write into the same files: "
            f"wait for its end, or end it (kill {pid}) and go on then; if that process is something else, "
            f"remove {directory / FILE}",
            1,
        )


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time pass, where the file system has locks; they end with their process."""
    try:
        file = os.open(directory, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(ImportError, OSError):
            import fcntl  # not on every system

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _code(error: BaseException | None) -> int:
    """Return the exit status of the command that ends with ``error``."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return exit_code(error)
