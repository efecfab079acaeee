"""Failures as one line: what was expected, what came, who decided it, what to do."""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
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
    "EnvironmentFaultError",
    "EnvironmentExitError",
)
"""Exceptions whose message was written for users, by name: importing them would load Lightning."""

_NO_MEMORY = (
    "can't allocate memory", "Unable to allocate", "out of memory", "array is too big",
    "Maximum allowed dimension exceeded", "Storage size calculation overflowed",
)  # fmt: skip
"""Parts of what numpy and torch say where there is not enough memory."""


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
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return (
            f"there is not enough memory for what was asked ({text[:200]}): lower num_envs, rollout_steps, "
            "capacity, batch_size or the widths of networks (hidden)"
        )
    if type(error).__name__ in EXPECTED and text:
        return text
    name = type(error).__name__
    return (
        f"{name}: {text} (run again with --debug to see where)" if text else f"{name} (--debug shows where)"
    )


def describe_exit(error: SystemExit) -> str:
    """Say where ``sys.exit`` was called by something that is no command."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next(frame for frame in reversed(frames) if "_sitebuiltins" not in frame.filename)  # of exit()
    code = "" if error.code is None else repr(error.code)
    return f"sys.exit({code}) was called in {last.name}, line {last.lineno} of {last.filename}"


def exit_code(error: BaseException) -> int:
    """Return the exit status for ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, CommandError | Stopped) else 1
