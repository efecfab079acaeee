"""Lets a process of its own draw the figure, while training goes on."""

from __future__ import annotations

import atexit
import logging
import math
import time
from contextlib import suppress
from pathlib import Path

from lit_rl.callbacks.paper.files import FIGURE, file_name
from lit_rl.files import unfinished
from lit_rl.processes import ModuleProcess

_log = logging.getLogger("lit_rl")

MODULE = "lit_rl.callbacks.paper.figure"
WAIT_S = 20.0
"""Longest time that the end of the program waits for the last figure."""


class FigureProcess:
    """Starts ``python -m lit_rl.callbacks.paper.figure DIRECTORY STEP``, never two at once.

    Args:
        interval_s: Shortest time in seconds between two starts, and between :meth:`begin` and the first.
    """

    def __init__(self, interval_s: float) -> None:
        self.interval_s = interval_s
        self._child: ModuleProcess | None = None
        self._figure = Path()
        self._started_at = -math.inf
        self._has_warned = False

    def begin(self) -> None:
        """Start the clock: the first figure comes an interval later."""
        self._started_at = time.monotonic()

    def start(self, directory: Path, step: int) -> None:
        """Draw what was exported up to env step ``step``, unless it is too early or one is being drawn."""
        if not self.is_running() and time.monotonic() - self._started_at >= self.interval_s:
            self._start(directory, step)

    def start_last(self, directory: Path, step: int) -> None:
        """Draw the figure of the end in place of any other; the end of the program waits for it."""
        self.kill()
        self._start(directory, step)
        atexit.register(self.wait)

    def is_running(self) -> bool:
        """Tell whether a figure is being drawn."""
        if self._child is None:
            return False
        status = self._child.poll()
        if status is None:
            return True
        self._child = None
        if status:
            self._warn(f"its process ended with status {status}")
        return False

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Let the figure be finished, for so many seconds; then it is given up."""
        atexit.unregister(self.wait)
        if self._child is not None:
            try:
                self._child.wait(timeout_s)
            except TimeoutError:
                self._warn(f"its process took more than {timeout_s:g} s")
                self.kill()
        self.is_running()

    def kill(self) -> None:
        """End the process, if there is one, and remove what it left unfinished."""
        if self.is_running() and self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
            with suppress(OSError):
                unfinished(self._figure).unlink(missing_ok=True)

    def _start(self, directory: Path, step: int) -> None:
        directory = directory.absolute()
        self._figure = directory / file_name(FIGURE, step, ".png")
        self._started_at = time.monotonic()
        try:
            self._child = ModuleProcess(MODULE, directory, step)
        except OSError as error:
            self._warn(f"its process did not start: {error.strerror or error}")

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            step = self._figure.stem.rpartition("_")[2]
            _log.warning(
                "PaperExport did not draw %s: %s; the rows are there, and `python -m %s %s %s` draws it or "
                "says why not",
                self._figure.name,
                what,
                MODULE,
                self._figure.parent,
                step,
            )
        self._has_warned = True
