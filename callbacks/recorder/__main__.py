"""The recorder process: reads messages from stdin, answers on stdout, ends when stdin does.

Started by ``client.py``. It leads a session of its own and ignores SIGINT and SIGTERM, which a terminal or a
scheduler sends to all processes of a job: as long as the trainer lives there is something to record, and when
the trainer is gone, stdin ends.
"""

from __future__ import annotations

import os
import signal
import traceback
from contextlib import suppress
from pathlib import Path

from lit_rl.callbacks.low_priority import yield_to_the_trainer
from lit_rl.callbacks.recorder.protocol import Message, is_readable, read_frame, write_frame
from lit_rl.callbacks.recorder.session import Session

POLL_S = 1.0
CRASH_LOG = "recorder_crash.log"


def main() -> None:
    """Record until the trainer closes or is gone."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    yield_to_the_trainer()
    replies = os.dup(1)
    os.dup2(2, 1)  # nothing that is printed may get between the replies
    session, directory, parent = Session(), None, os.getppid()
    try:
        while (message := _next_message(session, parent)) is not None:
            directory = message.get("config", {}).get("directory", directory)
            reply = session.handle(message)
            with suppress(BrokenPipeError):  # the trainer was killed: go on with what it had sent
                write_frame(replies, reply)
            if message["kind"] == "close" and reply["error"] is None:
                break
        session.end()
    except Exception:
        if directory is not None:
            with suppress(OSError), (Path(directory) / CRASH_LOG).open("a", encoding="utf-8") as file:
                file.write(traceback.format_exc())
        raise


def _next_message(session: Session, parent: int) -> Message | None:
    """The next message; None when the trainer is gone.

    The pipe alone does not tell: processes that the trainer forked may hold its other end.
    """
    while not is_readable(0, POLL_S):
        if os.getppid() != parent:
            return None
        session.tick()
    try:
        return read_frame(0)
    except EOFError:
        return None


if __name__ == "__main__":
    main()
