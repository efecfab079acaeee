"""Processes that run beside a trainer take what it leaves over of the machine."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

NICENESS = 19
SESSION_NICENESS = 10
"""A tenth of the weight of others: on a machine that is full, figures and files still get done."""
_TRIES = 20


def yield_to_the_trainer() -> None:
    """Give this process, and all it will start in its session, a low priority.

    Linux shares the cores among sessions first, and only within a session by niceness: a process in a session
    of its own would take as much as the trainer, however nice it is. So the session's weight is lowered, too.
    """
    with contextlib.suppress(OSError, AttributeError):  # Windows has no nice
        os.nice(NICENESS)
    _lower_session(os.getpid())


def lower_children() -> None:
    """The same for the processes that this one has started, each perhaps in a session of its own."""
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in listed.read_text().split():
                _lower_session(int(child))


def _lower_session(pid: int) -> None:
    for _ in range(_TRIES):
        try:
            Path(f"/proc/{pid}/autogroup").write_text(str(SESSION_NICENESS))
        except BlockingIOError:  # the kernel takes such a wish ten times a second only
            time.sleep(0.1)
        except OSError:  # no Linux, a kernel that does not group by session, or the process has ended
            return
        else:
            return
