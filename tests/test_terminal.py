"""Output that nobody reads any more is given up; every other fault is reported."""

from __future__ import annotations

import os
import pty
from collections.abc import Callable
from pathlib import Path

import pytest

from lit_rl import terminal


def hang_up(descriptor: int) -> None:
    """Make ``descriptor`` a terminal that was closed."""
    ours, theirs = pty.openpty()
    os.dup2(theirs, descriptor)
    os.close(theirs)
    os.close(ours)


def end_the_reader(descriptor: int) -> None:
    """Make ``descriptor`` a pipe whose reader has ended."""
    reading, writing = os.pipe()
    os.dup2(writing, descriptor)
    os.close(writing)
    os.close(reading)


@pytest.mark.parametrize("lose", [hang_up, end_the_reader])
def test_what_follows_goes_nowhere(lose: Callable[[int], None]) -> None:
    with os.fdopen(os.dup(2), "w") as stream:
        lose(stream.fileno())
        terminal.write(stream, "first\n")
        terminal.write(stream, "second\n")
        assert stream.write("third\n") == 6
        stream.flush()
        assert os.path.samestat(os.fstat(stream.fileno()), Path(os.devnull).stat())


def test_what_somebody_reads_arrives_at_once() -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        terminal.write(stream, "here\n")
        terminal.give_up_dead_terminal()
        assert os.read(reading, 100) == b"here\n"
    os.close(reading)


def test_other_faults_are_reported() -> None:
    with pytest.raises(OSError, match="No space left"), open("/dev/full", "w") as stream:  # noqa: PTH123, SIM117
        with terminal.may_be_gone(stream):
            os.write(stream.fileno(), b"text")


def test_a_terminal_that_has_hung_up_is_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    with capfd.disabled():
        kept = os.dup(1)
        try:
            hang_up(1)
            terminal.give_up_dead_terminal()
            os.write(1, b"nobody reads this")
        finally:
            os.dup2(kept, 1)
            os.close(kept)
