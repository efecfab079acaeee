"""The recorder process: reads messages from stdin, answers on stdout, ends when stdin does.

``client.py`` starts it. It leads a session of its own and ignores the signals that a terminal or a scheduler
sends to all processes of a job: as long as the trainer lives there is something to record, and when the
trainer is gone, stdin ends.
"""

from __future__ import annotations

import os
import traceback
from contextlib import suppress
from pathlib import Path

from lit_rl.callbacks.recorder.session import Session
from lit_rl.files import open_own
from lit_rl.processes import (
    Message,
    is_orphaned,
    is_readable,
    read_message,
    write_message,
    yield_to_the_trainer,
)

POLL_S = 1.0
CRASH_LOG = "recorder_crash.log"


def main() -> None:
    """Record until the trainer closes or is gone."""
    yield_to_the_trainer()
    replies = os.dup(1)
    os.dup2(2, 1)  # nothing that is printed may get between the replies
    session, directory, parent = Session(), None, os.getppid()
    try:
        while (message := _next_message(session, parent)) is not None:
            directory = message.get("config", {}).get("directory", directory)
            reply = session.handle(message)
            with suppress(BrokenPipeError):  # the trainer was killed: go on with what it had sent
                write_message(replies, reply)
            if message["kind"] == "close" and reply["error"] is None:
                break
        session.end()
    except Exception:
        if directory is not None:
            with suppress(OSError), open_own(Path(directory) / CRASH_LOG, "a", encoding="utf-8") as file:
                file.write(traceback.format_exc())
        raise


def _next_message(session: Session, parent: int) -> Message | None:
    """Wait for the next message; None when the trainer is gone."""
    while not is_readable(0, POLL_S):
        if is_orphaned(parent):
            return None
        session.tick()
    try:
        return read_message(0)
    except EOFError:
        return None


if __name__ == "__main__":
    main()
