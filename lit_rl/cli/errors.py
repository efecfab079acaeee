"""Failures as one line: what was expected, what came, who decided it, what to do."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_rl import terminal

EXPECTED = (
    "ValueError",
    "TypeError",
    "MisconfigurationException",
    "FloatingPointError",
    "DependencyNotInstalled",
)
"""Exceptions whose message was written for users, by name: importing them would load Lightning."""


class CommandError(Exception):
    """A failure whose message says all there is to say.

    Args:
        message: One line.
        code: Exit status: 2 when the command line or configuration is wrong, 1 otherwise.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Stopped(BaseException):
    """A signal asked the command to stop. It is no ``Exception``: nothing on its way takes it for a failure.

    Args:
        signum: Number of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.code = 128 + signum


@contextmanager
def naming_a_full_disk(directory: Path | None) -> Iterator[None]:
    """Name the run directory where the disk is full; what the system says names a file at most."""
    try:
        yield
    except OSError as error:
        if directory is None or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise CommandError(
            f"the disk of run directory {directory} is full ({error.strerror}): free space, and go on by "
            f"lit-rl fit --config {directory}/config.yaml --ckpt_path last",
            1,
        ) from error


def report(error: BaseException) -> None:
    """Write the one line about ``error`` to stderr."""
    rank = os.environ.get("LOCAL_RANK", "0")
    where = "" if rank == "0" else f" (rank {rank})"
    terminal.write(sys.stderr, f"lit-rl: error:{where} {describe(error)}\n")


def describe(error: BaseException) -> str:
    """Put ``error`` on one line; the type is named where the message alone was not written for users."""
    text = " ".join(str(error).split())
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, CommandError | Stopped):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if type(error).__name__ in EXPECTED and text:
        return text
    name = type(error).__name__
    return (
        f"{name}: {text} (run again with --debug to see where)" if text else f"{name} (--debug shows where)"
    )


def exit_code(error: BaseException) -> int:
    """Return the exit status for ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, CommandError | Stopped) else 1
