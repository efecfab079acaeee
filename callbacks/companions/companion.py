"""Companions: processes beside the trainer, for work that would hold it up.

A companion runs a module of its own (``python -m``), imports no torch, has the lowest priority, and leads its
own session, so that Ctrl-C does not reach it. The two are connected by a pair of sockets. When the trainer
ends, by whatever signal, its socket closes, and the companion finishes its work and ends as well.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from lit_rl.callbacks.low_priority import yield_to_the_trainer

_HEADER = 4
_CHUNK = 1 << 18


class Channel:
    """One end of the socket pair: sends and receives plain objects and never waits.

    Messages are kept, up to ``max_unsent`` bytes, until the socket takes them. It is asked no more often than
    every ``push_interval_s``, because handing over a message costs several times as much as keeping it.

    Args:
        end: A connected stream socket; it becomes non-blocking.
        push_interval_s: Shortest time between two hand-overs in seconds; a killed sender loses what it kept.
        max_unsent: Messages beyond so many kept bytes are refused.

    Attributes:
        refused: Number of messages refused so far.
        is_open: False once the other side closed its end or was killed, and all it sent was received.
    """

    def __init__(self, end: socket.socket, push_interval_s: float = 0.0, max_unsent: int = 8 << 20) -> None:
        end.setblocking(False)
        self.socket = end
        self.push_interval_s = push_interval_s
        self.max_unsent = max_unsent
        self.refused = 0
        self.is_open = True
        self.unsent = bytearray()
        self._received = bytearray()
        self._pushed_at = -math.inf

    def send(self, message: object, *, is_vital: bool = False) -> bool:
        """Send ``message`` now or later; returns False when it was refused, which no vital one is.

        Raises:
            OSError: Nobody is at the other end.
        """
        data = pickle.dumps(message)
        fits = len(self.unsent) + _HEADER + len(data) <= self.max_unsent
        if fits or is_vital:
            self.unsent += len(data).to_bytes(_HEADER) + data
        else:
            self.refused += 1
        if time.monotonic() - self._pushed_at >= self.push_interval_s:
            self.push()
        return fits or is_vital

    def push(self) -> None:
        """Hand the socket what it takes.

        Raises:
            OSError: Nobody is at the other end.
        """
        self._pushed_at = time.monotonic()
        with contextlib.suppress(BlockingIOError):
            del self.unsent[: self.socket.send(self.unsent)]

    def receive(self) -> list[Any]:
        """The messages that have come in since the last call."""
        try:
            chunk = self.socket.recv(_CHUNK)
            self.is_open = bool(chunk)
            self._received += chunk
        except BlockingIOError:
            return []
        except OSError:
            self.is_open = False
        messages = []
        while len(self._received) >= _HEADER:
            end = _HEADER + int.from_bytes(self._received[:_HEADER])
            if len(self._received) < end:
                break
            messages.append(pickle.loads(self._received[_HEADER:end]))
            del self._received[:end]
        return messages


class Companion:
    """A companion, seen from the trainer.

    Args:
        module: Name of the module that it runs; see :func:`attach`.
        push_interval_s: Of the channel to it.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self, module: str, push_interval_s: float = 0.0) -> None:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-P", "-m", module, str(theirs.fileno()), str(os.getpid())]
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.callback(ours.close)
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            unless_started.pop_all()
        self.channel = Channel(ours, push_interval_s)

    @property
    def pid(self) -> int:
        """Of the process, and of its session and process group."""
        return self._process.pid

    def finish(self, patience_s: float) -> list[Any]:
        """Let it finish: deliver what is unsent, say that nothing follows, wait for its end.

        Args:
            patience_s: It is killed when it still runs after so many seconds.

        Returns:
            What it still had to say.
        """
        channel, deadline = self.channel, time.monotonic() + patience_s
        messages: list[Any] = []
        try:
            while channel.unsent and (left := deadline - time.monotonic()) > 0:
                select.select([], [channel.socket], [], left)
                channel.push()
            channel.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has ended already; what it said is read below
        while channel.is_open and (left := deadline - time.monotonic()) > 0:
            select.select([channel.socket], [], [], left)
            messages += channel.receive()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()
        return messages

    def kill(self) -> None:
        """End it and its children at once; may be called twice."""
        if self._process.returncode is None:  # otherwise its id may be that of another process by now
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
        self.channel.socket.close()


def attach() -> tuple[Channel, int]:
    """First line of a companion's ``main``: its channel, and the process id of the trainer."""
    descriptor, trainer = map(int, sys.argv[1:3])
    yield_to_the_trainer()
    return Channel(socket.socket(fileno=descriptor)), trainer


def messages(channel: Channel, trainer: int) -> Iterator[Any]:
    """All messages of the trainer until it closes its end.

    A process that the trainer forked may hold that end when the trainer is gone, so the trainer's process is
    watched, too.
    """
    while channel.is_open:
        ready, _, _ = select.select([channel.socket], [], [], 1.0)
        if ready:
            yield from channel.receive()
        elif os.getppid() != trainer:
            return


def reply(channel: Channel, kind: str, text: str = "") -> None:
    """Tell the trainer something, if it is still there."""
    with contextlib.suppress(OSError):
        channel.send((kind, text))


def describe(error: BaseException) -> str:
    """``error`` in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
