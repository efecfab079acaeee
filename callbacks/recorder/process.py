"""The recorder process as the trainer sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, cast

import lit_rl
from lit_rl.callbacks.recorder.protocol import Message, read_frame, write_frame


class RecorderProcess:
    """``python -m lit_rl.callbacks.recorder`` in a session of its own, so that Ctrl-C does not reach it.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(self) -> None:
        # one thread is enough for a figure, and more would cost the trainer's cores
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        paths = [str(Path(lit_rl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "lit_rl.callbacks.recorder"],  # -P: no module of the current folder
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def handle(self, message: Message) -> Message:
        """Send one message and wait for its answer.

        Raises:
            OSError: The process is dead.
            EOFError: It died before it answered.
            ValueError: It answered nonsense.
        """
        write_frame(self._stdin.fileno(), message)
        return read_frame(self._stdout.fileno())

    def kill(self) -> None:
        """End it at once, from any thread; who waits for an answer gets ``EOFError``."""
        self._process.kill()

    def close_pipes(self) -> None:
        """Let go of it: it ends when nobody holds the other end of its stdin."""
        for pipe in (self._stdin, self._stdout):
            with suppress(OSError):
                pipe.close()

    def end(self) -> int:
        """Let it finish by itself, wait for that, and return its exit status."""
        self.close_pipes()
        return self._process.wait()

    @property
    def _stdin(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdin)

    @property
    def _stdout(self) -> IO[bytes]:
        return cast("IO[bytes]", self._process.stdout)
