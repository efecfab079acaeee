"""``process.json``: which process trains a run, and how it ended."""

from __future__ import annotations

import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from lit_rl.cli.errors import exit_code
from lit_rl.files import write_json
from lit_rl.report.process import FILE, create_time

_log = logging.getLogger("lit_rl")


class ProcessFile:
    """Says in the run directory that this process trains, and how it ended, while it is entered as a context.

    The state is ``running``, then ``finished``, ``interrupted`` (a signal stopped it) or ``failed``. A
    process that was killed leaves ``running``; its number and the time it began tell that it is gone.

    Args:
        directory: The run directory; None writes nothing.
        total_env_steps: Env steps the run is to do.
    """

    def __init__(self, directory: Path | None, total_env_steps: int) -> None:
        self._directory = directory
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
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = _code(error)
        state = "finished" if code == 0 else "interrupted" if code > 128 else "failed"
        self._content |= {"state": state, "exit_code": code, "ended": time.time()}
        self._write()

    def _write(self) -> None:
        """Exchange the file as a whole; training goes on where that is impossible."""
        if self._directory is None:
            return
        path = self._directory / FILE
        try:
            write_json(path, self._content)
        except OSError as error:
            _log.warning(
                "%s cannot be written: %s; lit-rl status will not know this run", path, error.strerror
            )
            self._directory = None


def _code(error: BaseException | None) -> int:
    """Return the exit status of the command that ends with ``error``."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return exit_code(error)
