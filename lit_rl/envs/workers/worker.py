"""One worker process, seen from the trainer: it is asked, it answers, and its end has a reason."""

from __future__ import annotations

import logging
import math
import os
import pickle
import re
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any, NoReturn, Protocol

from lit_rl.envs.faults import EnvironmentExitError, EnvironmentFaultError
from lit_rl.envs.workers.shared_arrays import open_memory
from lit_rl.processes import ModuleProcess

log = logging.getLogger("lit_rl")

_KEPT: dict[str, type[Exception]] = {
    "ValueError": ValueError,
    "TypeError": TypeError,
    "FloatingPointError": FloatingPointError,
    "EnvironmentExitError": EnvironmentExitError,
}
_FOREVER_S = 1e9
_TRACE_S = 1.0
_PATIENCE_S = 5.0
_LOOK_S = 2.0  # how often a worker that is waited for is looked at
STOPPED_S = 10.0
"""Seconds after which a worker that was stopped (SIGSTOP) is taken to be lost."""
_FRAME = re.compile(r'File "(.+)", line (\d+) in (\S+)')


MAX_LOSSES = 3
"""How often in a row a worker is replaced; then the run ends."""
FIRST_WAIT_S = 1.0
"""Seconds before a worker is replaced for the second time in a row; they double with each time."""


class WorkerLostError(RuntimeError):
    """A worker process was killed or stopped by a signal: another one may do its work."""


class AnyWorker(Protocol):
    """A worker, wherever it runs: it is asked, and it answers in the order of the questions.

    ``rows`` are its environments, ``name`` is what they are called in messages, ``pid`` is its process.
    """

    rows: slice
    name: str

    @property
    def pid(self) -> int:
        """Number of its process, on its machine."""
        ...

    @property
    def where(self) -> str:
        """Say in words which environments it steps."""
        ...

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer and no longer."""
        ...

    def send(self, what: str, *arguments: Any) -> None:
        """Ask for ``what``, a public method of the share of environments."""
        ...

    def receive(self) -> Any:
        """Wait for the answer to the oldest question."""
        ...

    def close(self) -> None:
        """Let it end."""
        ...

    def end(self, patience_s: float) -> None:
        """Wait for its end after :meth:`close`; kill it when that takes too long."""
        ...


class Worker:
    """A worker process.

    Args:
        memories: File descriptors of the memory that it shares with the trainer.
        rows: Which environments it steps.
        module: Module that the process runs; it calls ``serve`` of ``process.py``.
        last_sign: Function that returns when the process last showed that it lives, in seconds of
            ``time.monotonic``; None for a process that only answers.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(
        self,
        memories: Sequence[int],
        rows: slice,
        module: str = "lit_rl.envs.workers.process",
        last_sign: Callable[[], float] | None = None,
    ) -> None:
        self.rows = rows
        self.name = ""
        self._asked, self._asked_at, self._patience_s = "", 0.0, math.inf
        self._last_sign = last_sign or (lambda: -math.inf)
        self.connection, theirs = Pipe()
        self._channel = socket.socket(fileno=os.dup(self.connection.fileno()))
        self._channel.setblocking(True)  # whatever socket.setdefaulttimeout was told
        self._trace = open_memory()
        own = theirs.fileno(), self._trace
        try:
            self.process = ModuleProcess(
                module, *own, os.getpid(), *memories, is_background=False, pass_fds=(*own, *memories)
            )
        except BaseException:
            self.connection.close()
            self._channel.close()
            os.close(self._trace)
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self.process.pid

    @property
    def where(self) -> str:
        """Say in words which environments it steps."""
        return describe_rows(self.name, self.rows)

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer and no longer; the kernel counts the time, so that it costs nothing."""
        for direction, longest in ((socket.SO_RCVTIMEO, _LOOK_S), (socket.SO_SNDTIMEO, _FOREVER_S)):
            limit = min(seconds, longest)
            microseconds = 0 if limit >= _FOREVER_S else max(1, round(1e6 * limit))  # 0 is for ever
            self._channel.setsockopt(
                socket.SOL_SOCKET, direction, struct.pack("ll", *divmod(microseconds, 1_000_000))
            )
        self._patience_s = seconds

    def send(self, what: str, *arguments: Any) -> None:
        """Ask for ``what``, a public method of the share of environments in the process.

        Raises:
            WorkerLostError: The process was killed.
            RuntimeError: It has ended, or takes nothing in.
        """
        self._asked, self._asked_at = "step" if what == "step_shared" else what, time.monotonic()
        try:  # Connection.send would hand tensors over as open files
            self.connection.send_bytes(pickle.dumps((what, *arguments)))
        except BlockingIOError:
            self.report_hang()
        except ConnectionError:
            self._report_end()

    def receive(self) -> Any:
        """Wait for the answer.

        Raises:
            WorkerLostError: The process was killed, or stopped.
            RuntimeError: It has ended or hangs, or its environment failed.
            ValueError: The environment says so; TypeError and FloatingPointError are passed on, too.
        """
        self._wait()
        try:
            is_fine, answer = self.connection.recv()
        except BlockingIOError:
            self.report_hang()
        except (EOFError, OSError):
            self._report_end()
        return answer if is_fine else raise_again(self, *answer)

    def _wait(self) -> None:
        """Wait for the first byte of the answer; every other second the process is looked at."""
        stopped_since = math.inf
        while True:
            try:
                self._channel.recv(1, socket.MSG_PEEK)
            except BlockingIOError:
                now = time.monotonic()
                stopped_since = min(stopped_since, now) if self._is_stopped() else math.inf
                if now - stopped_since >= STOPPED_S:
                    self._report_stop()
                if now - max(self._asked_at, self._last_sign()) >= self._patience_s:
                    self.report_hang()
            except OSError:
                return  # the next to read says why
            else:
                return

    def _is_stopped(self) -> bool:
        """Whether a signal stopped the process, and nothing woke it; False where the system cannot say."""
        try:
            told = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return False
        return told.rpartition(")")[2].split()[0] in "Tt"

    def close(self) -> None:
        """Close the connection, so that the process ends."""
        self.connection.close()
        self._channel.close()

    def end(self, patience_s: float) -> None:
        """Wait for its end after :meth:`close`; kill it when that takes too long."""
        with suppress(TimeoutError):
            self.process.wait(patience_s)
        self.process.kill()
        self.process.wait()
        os.close(self._trace)

    def _report_stop(self) -> NoReturn:
        self.process.kill()
        raise WorkerLostError(
            f"the worker process of {self.where} was stopped (SIGSTOP) and not woken for {STOPPED_S:g} s"
        )

    def _report_end(self) -> NoReturn:
        self.process.kill()
        code = self.process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        hint = "memory may have run out: fewer num_workers or num_envs need less"
        hint = hint if code == -signal.SIGKILL else "what it printed is above"
        kind = WorkerLostError if code < 0 else RuntimeError  # who ends by itself would do so again
        raise kind(f"the worker process of {self.where} {how}; {hint}") from None

    def report_hang(self) -> NoReturn:
        """Kill the process, and say what it was doing.

        Raises:
            RuntimeError: Always.
        """
        trace = self._read_trace()
        self.process.kill()
        raise_hang(self.where, self._asked, self._patience_s, trace)

    def _read_trace(self) -> str:
        """Let the process write down what it is doing, innermost call first; empty where it cannot."""
        with suppress(ProcessLookupError):
            os.kill(self.process.pid, signal.SIGUSR2)
        deadline, size = time.monotonic() + _TRACE_S, -1
        while time.monotonic() < deadline and (not size or size != os.fstat(self._trace).st_size):
            size = os.fstat(self._trace).st_size
            time.sleep(0.02)
        return os.pread(self._trace, max(0, size), 0).decode(errors="replace")


def describe_rows(name: str, rows: slice) -> str:
    """Say in words which environments ``rows`` are."""
    last = rows.stop - 1
    which = f"environment {last}" if rows.start == last else f"environments {rows.start} to {last}"
    return f"{name} ({which})" if name else which


def raise_hang(where: str, asked: str, patience_s: float, trace: str) -> NoReturn:
    """Say that a worker did not answer, and where it is.

    Args:
        where: Name of the environments that it steps.
        asked: Question that it did not answer.
        patience_s: Seconds for which it was waited.
        trace: Calls that it was in, the innermost one first; empty where it could not say.

    Raises:
        RuntimeError: Always.
    """
    frame = _FRAME.search(trace)
    at = "" if frame is None else f" (it is in {frame[3]}, line {frame[2]} of {frame[1]})"
    raise RuntimeError(
        f"the worker process of {where} did not answer {asked}() within step_timeout_s = "
        f"{patience_s:g}{at}; the environment hangs, or needs a longer step_timeout_s"
    ) from WorkerTraceback(f"\n{trace}")


def raise_again(worker: AnyWorker, kind: str, text: str, trace: str, row: int | None = None) -> NoReturn:
    """Raise again what was raised in a worker: with its type where the message was written for users.

    Args:
        worker: The worker.
        kind: Name of the type of the exception.
        text: Its message.
        trace: Traceback of the worker.
        row: Number of the environment, among those of the worker, that it is about; None where it is about
            all of them.

    Raises:
        Exception: Always.
    """
    if kind == EnvironmentFaultError.__name__:
        of_one = None if row is None else worker.rows.start + row
        fault = EnvironmentFaultError(worker.where if row is None else worker.name, text, of_one)
        raise fault from WorkerTraceback(f"\n{trace}")
    text = text.removeprefix(f"{worker.name}: ")
    message = text if kind in _KEPT and text else f"{kind}: {text}" if text else kind
    raise _KEPT.get(kind, RuntimeError)(f"{worker.where}: {message}") from WorkerTraceback(f"\n{trace}")


def end_workers(workers: Iterable[AnyWorker], memories: Sequence[int], owner: int) -> None:
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
        worker.close()
    for worker in workers:
        worker.end(max(0.0, deadline - time.monotonic()))
    for memory in memories:
        os.close(memory)


def give_way(lost: AnyWorker, error: WorkerLostError, losses: int) -> None:
    """End a lost worker, and wait until another one may take its place: at once, then after 1 and 2 s.

    Args:
        lost: The worker.
        error: What happened to it.
        losses: How often in a row one in this place was lost.

    Raises:
        RuntimeError: It was lost too often in a row.
    """
    lost.close()
    lost.end(0.0)
    if losses > MAX_LOSSES:
        raise RuntimeError(f"{error}; this happened {losses} times in a row") from error
    wait_s = 0.0 if losses == 1 else FIRST_WAIT_S * 2 ** (losses - 2)
    when = f" after {wait_s:g} s" if wait_s else ""
    why = str(error)  # whoever keeps the record would keep the memory that the traceback holds
    log.warning("%s; another process takes its place%s, and its environments begin new episodes", why, when)
    time.sleep(wait_s)


class WorkerTraceback(Exception):  # noqa: N818  # the cause of an exception: where it was raised in a worker
    """Traceback of a worker process, for ``--debug``."""
