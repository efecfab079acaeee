"""Output for people, who may go away: their terminal is closed, or what they piped it into has ended."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_GONE = (errno.EPIPE, errno.EIO)  # nobody reads the pipe; the terminal has hung up


def write(stream: TextIO, text: str) -> None:
    """Write and flush; where nobody can read it any more, this and all that follows goes nowhere."""
    with may_be_gone(stream):
        stream.write(text)
        stream.flush()


@contextmanager
def may_be_gone(stream: TextIO) -> Iterator[None]:
    """Write to ``stream`` inside; where nobody can read it any more, what follows goes nowhere."""
    try:
        yield
    except OSError as error:
        if error.errno not in _GONE:
            raise
        _give_up(stream.fileno())


def give_up_dead_terminal() -> None:
    """Let stdout and stderr go nowhere where their terminal has hung up, so that no ``print`` fails."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError as error:
            if error.errno in _GONE:
                _give_up(descriptor)


def _give_up(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
