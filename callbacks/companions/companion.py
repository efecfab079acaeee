"""Companions: processes beside the trainer, for work that would hold it up.

A companion runs a module of its own (``python -m``), imports no torch and has the lowest priority. A pair of
sockets connects it with the trainer. When the trainer ends, by whatever signal, its socket closes, and the
companion finishes its work and ends as well.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import time
from collections.abc import Iterator

from lit_rl.callbacks.companions.channel import Channel
from lit_rl.processes import Message, ModuleProcess, is_orphaned, yield_to_the_trainer


class Companion:
    """A companion, seen from the trainer.

    Args:
        module: Name of the module that it runs; its ``main`` begins with :func:`attach`.
        push_interval_s: Shortest time in seconds between two hand-overs of messages to it.

    Raises:
        OSError: The process could not be started.
    """

    def __init__(self, module: str, push_interval_s: float = 0.0) -> None:
        ours, theirs = socket.socketpair()
        descriptor = theirs.fileno()
        with theirs, contextlib.ExitStack() as unless_started:
            unless_started.callback(ours.close)
            self._process = ModuleProcess(module, descriptor, os.getpid(), pass_fds=[descriptor])
            unless_started.pop_all()
        self.channel = Channel(ours, push_interval_s)

    @property
    def pid(self) -> int:
        """Number of the process, of its session and of its process group."""
        return self._process.pid

    def finish(self, patience_s: float) -> list[Message]:
        """Let it finish: deliver what is unsent, say that nothing follows, wait for its end.

        Args:
            patience_s: It is killed when it still runs after so many seconds.

        Returns:
            What it still had to say.
        """
        channel, deadline = self.channel, time.monotonic() + patience_s
        messages: list[Message] = []
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
        with contextlib.suppress(TimeoutError):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill()
        return messages

    def kill(self) -> None:
        """End it and its children at once; may be called twice."""
        self._process.kill()
        self._process.wait()
        self.channel.socket.close()


def attach() -> tuple[Channel, int]:
    """Begin the ``main`` of a companion: returns its channel, and the process id of the trainer."""
    descriptor, trainer = map(int, sys.argv[1:3])
    yield_to_the_trainer()
    return Channel(socket.socket(fileno=descriptor)), trainer


def messages(channel: Channel, trainer: int) -> Iterator[Message]:
    """Yield all messages of the trainer until it closes its end or is gone."""
    while channel.is_open:
        ready, _, _ = select.select([channel.socket], [], [], 1.0)
        if ready:
            yield from channel.receive()
        elif is_orphaned(trainer):
            return


def reply(channel: Channel, kind: str, text: str = "") -> None:
    """Tell the trainer something, if it is still there."""
    with contextlib.suppress(OSError):
        channel.send((kind, text))


def describe(error: BaseException) -> str:
    """``error`` in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
