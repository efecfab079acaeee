"""A command of lit-rl that the supervisor keeps running: its lines, its losses, its pauses."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import IO, TextIO

from lit_rl import terminal
from lit_rl.processes import ModuleProcess

_log = logging.getLogger("lit_rl")

PAUSES_S = (0.2, 1.0, 3.0)
"""Pauses before the first, the second and the third new start; what is lost once more is given up."""
STEADY_S = 60.0
"""A process that ran for so long has shown that it can; losses before it count no more."""

_lock = threading.Lock()


class Child:
    """A process that is started again when it is lost.

    Args:
        label: Name with which each of its lines begins, in brackets.
        arguments: Command line after ``lit-rl``; asked anew before each start.
        is_lost: Whether a process that ended with this exit status (``-N``: killed by signal N) is started
            again; otherwise it has ended for good.
    """

    def __init__(
        self, label: str, arguments: Callable[[], Sequence[str]], is_lost: Callable[[int], bool]
    ) -> None:
        self.label, self._arguments, self._is_lost = label, arguments, is_lost
        self.num_losses = 0  # in a row
        self.exit_code: int | None = None
        self._process: ModuleProcess | None = None
        self._begun, self._due, self._last_code = 0.0, 0.0, 0
        self._readers: list[threading.Thread] = []

    def start(self) -> None:
        """Start it.

        Raises:
            OSError: The process could not be started.
        """
        self._process = ModuleProcess("lit_rl", *self._arguments(), is_supervised=True)
        self._begun = time.monotonic()
        streams = zip(self._process.printed, (sys.stdout, sys.stderr), strict=True)
        self._readers = [
            threading.Thread(target=_copy, args=(stream, out, f"[{self.label}] "), daemon=True)
            for stream, out in streams
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int | None:
        """Number of its process; None while there is none."""
        return None if self._process is None else self._process.pid

    def tend(self, may_start: bool = True) -> int | None:
        """Start it again if it was lost and its pause is over.

        Args:
            may_start: False while everything is to end: a lost process has then ended for good.

        Returns:
            Its exit status once it has ended for good; None while it goes on.
        """
        if self.exit_code is None and self._process is None:
            if not may_start:
                self.exit_code = self._last_code
            elif time.monotonic() >= self._due:
                self.start()
        elif self.exit_code is None and self._process is not None:
            code = self._process.poll()
            if code is not None:
                self._ended(code, may_start)
        return self.exit_code

    def _ended(self, code: int, may_start: bool) -> None:
        now = time.monotonic()
        self._read_to_the_end()
        self.num_losses = 1 if now - self._begun > STEADY_S else self.num_losses + 1
        if not (may_start and self._is_lost(code)):
            self.exit_code = code
        elif self.num_losses > len(PAUSES_S):
            _log.warning("%s was lost %d times in a row, and is given up", self.label, self.num_losses)
            self.exit_code = code
        else:
            pause = PAUSES_S[self.num_losses - 1]
            why = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
            _log.warning("%s was lost (%s); it is started again in %g s", self.label, why, pause)
            self._process, self._due, self._last_code = None, now + pause, code

    def send(self, signum: int) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send(signum)

    def kill(self) -> None:
        """End it, and what it has started, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._read_to_the_end()

    def _read_to_the_end(self) -> None:
        for reader in self._readers:
            reader.join(2.0)  # what it has started may hold the pipe for longer


def _copy(stream: IO[bytes], out: TextIO, prefix: str) -> None:
    with stream:
        for line in stream:
            text = line.decode(errors="replace").rstrip("\r\n")
            if text:
                with _lock:
                    terminal.write(out, f"{prefix}{text}\n")
