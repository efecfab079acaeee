"""The connection between the trainer and a companion, on which neither ever waits for the other."""

from __future__ import annotations

import contextlib
import math
import socket
import time
from collections.abc import Mapping

from lit_rl.processes import Message, pack, unpack

_CHUNK = 1 << 18


class Channel:
    """One end of the socket pair: sends and receives plain data and never waits.

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

    def send(
        self, message: Message, numbers: Mapping[str, float] | None = None, *, is_vital: bool = False
    ) -> bool:
        """Send a message now or later; returns False when it was refused, which no vital one is.

        Args:
            message: Plain data, as for :func:`lit_rl.processes.pack`.
            numbers: Named numbers that arrive as one more item of ``message``, its last.
            is_vital: Whether to keep it, however many bytes are unsent.

        Raises:
            OSError: Nobody is at the other end.
        """
        data = pack(message, numbers)
        fits = len(self.unsent) + len(data) <= self.max_unsent
        if fits or is_vital:
            self.unsent += data
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

    def receive(self) -> list[Message]:
        """Return the messages that have come in since the last call."""
        try:
            chunk = self.socket.recv(_CHUNK)
            self.is_open = bool(chunk)
            self._received += chunk
        except BlockingIOError:
            return []
        except OSError:
            self.is_open = False
        return unpack(self._received)
