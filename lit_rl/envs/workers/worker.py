"""One worker process, seen from the trainer: it is asked, it answers, and its end has a reason."""

from __future__ import annotations

import math
import os
import pickle
import re
import signal
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from typing import Any, NoReturn

from lit_rl.envs.workers.shared_arrays import open_memory
from lit_rl.processes import ModuleProcess

_KEPT: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "TypeError": TypeError,
    "FloatingPointError": FloatingPointError,
}
_FOREVER_S = 1e9
_TRACE_S = 1.0
_PATIENCE_S = 5.0
_FRAME = re.compile(r'File "(.+)", line (\d+) in (\S+)')


class Worker:
    """A worker process.

    Args:
        memories: File descriptors of the memory that it shares with the trainer.
        rows: Which environments it steps.
        module: Module that the process runs; it calls ``serve`` of ``process.py``.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(
        self, memories: Sequence[int], rows: slice, module: str = "lit_rl.envs.workers.process"
    ) -> None:
        self.rows = rows
        self.name = ""
        self._asked, self._patience_s = "", math.inf
        self.connection, theirs = Pipe()
        self._trace = open_memory()
        own = theirs.fileno(), self._trace
        try:
            self.process = ModuleProcess(
                module, *own, os.getpid(), *memories, is_background=False, pass_fds=(*own, *memories)
            )
        except BaseException:
            self.connection.close()
            os.close(self._trace)
            raise
        finally:
            theirs.close()

    @property
    def where(self) -> str:
        """Say in words which environments it steps."""
        last = self.rows.stop - 1
        which = (
            f"environment {last}" if self.rows.start == last else f"environments {self.rows.start} to {last}"
        )
        return f"{self.name} ({which})" if self.name else which

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer and no longer; the kernel counts the time, so that it costs nothing."""
        microseconds = 0 if seconds > _FOREVER_S else max(1, round(1e6 * seconds))  # 0 is for ever
        limit = struct.pack("ll", *divmod(microseconds, 1_000_000))
        with socket.socket(fileno=os.dup(self.connection.fileno())) as channel:
            channel.setblocking(True)  # whatever socket.setdefaulttimeout was told
            for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                channel.setsockopt(socket.SOL_SOCKET, direction, limit)
        self._patience_s = seconds

    def send(self, what: str, *arguments: Any) -> None:
        """Ask for ``what``, a public method of the share of environments in the process.

        Raises:
            RuntimeError: The process has ended, or takes nothing in.
        """
        self._asked = "step" if what == "step_shared" else what
        try:  # Connection.send would hand tensors over as open files
            self.connection.send_bytes(pickle.dumps((what, *arguments)))
        except BlockingIOError:
            self.report_hang()
        except ConnectionError:
            self._report_end()

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            RuntimeError: The process has ended, hangs, or its environment failed.
            ValueError: The environment says so; TypeError and FloatingPointError are passed on, too.
        """
        try:
            is_fine, answer = self.connection.recv()
        except BlockingIOError:
            self.report_hang()
        except (EOFError, OSError):
            self._report_end()
        return answer if is_fine else self._raise(*answer)

    def end(self, patience_s: float) -> None:
        """Wait for its end after ``connection`` was closed; kill it when that takes too long."""
        with suppress(TimeoutError):
            self.process.wait(patience_s)
        self.process.kill()
        self.process.wait()
        os.close(self._trace)

    def _report_end(self) -> NoReturn:
        self.process.kill()
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        hint = "memory may have run out: fewer num_workers or num_envs need less"
        hint = hint if code == -signal.SIGKILL else "what it printed is above"
        raise RuntimeError(f"the worker process of {self.where} {how}; {hint}") from None

    def report_hang(self) -> NoReturn:
        """Kill the process, and say what it was doing.

        Raises:
            RuntimeError: Always.
        """
        trace = self._read_trace()
        self.process.kill()
        frame = _FRAME.search(trace)
        at = "" if frame is None else f" (it is in {frame[3]}, line {frame[2]} of {frame[1]})"
        raise RuntimeError(
            f"the worker process of {self.where} did not answer {self._asked}() within step_timeout_s = "
            f"{self._patience_s:g}{at}; the environment hangs, or needs a longer step_timeout_s"
        ) from WorkerTraceback(f"\n{trace}")

    def _read_trace(self) -> str:
        """Let the process write down what it is doing, innermost call first; empty where it cannot."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGUSR2)
        deadline, size = time.monotonic() + _TRACE_S, -1
        while time.monotonic() < deadline and (not size or size != os.fstat(self._trace).st_size):
            size = os.fstat(self._trace).st_size
            time.sleep(0.02)
        return os.pread(self._trace, max(0, size), 0).decode(errors="replace")

    def _raise(self, kind: str, text: str, trace: str) -> NoReturn:
        """Raise again what was raised in a worker: with its type where the message was written for users."""
        text = text.removeprefix(f"{self.name}: ")
        message = text if kind in _KEPT and text else f"{kind}: {text}" if text else kind
        raise _KEPT.get(kind, RuntimeError)(f"{self.where}: {message}") from WorkerTraceback(f"\n{trace}")


def end_workers(workers: Iterable[Worker], memories: Sequence[int], owner: int) -> None:
    """Let workers close their environments, kill those that take too long, and give the memory back.

    Args:
        workers: Those that run.
        memories: File descriptors of the memory that they share.
        owner: Process that started them; in any other, a forked copy, nothing happens.
    """
    if os.getpid() != owner:
        return
    workers, deadline = list(workers), time.monotonic() + _PATIENCE_S
    for worker in workers:
        worker.connection.close()
    for worker in workers:
        worker.end(max(0.0, deadline - time.monotonic()))
    for memory in memories:
        os.close(memory)


class WorkerTraceback(Exception):  # noqa: N818  # the cause of an exception: where it was raised in a worker
    """Traceback of a worker process, for ``--debug``."""
