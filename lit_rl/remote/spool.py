"""Chunks on their way to the learner: not sent yet, sent and not taken yet, taken and kept for a while."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class Chunk(NamedTuple):
    """An encoded chunk: its number, its env steps, and its bytes."""

    seq: int
    steps: int
    frame: bytes


class Spool:
    """Keeps chunks in the order of their numbers, within two bounds of memory.

    Args:
        waiting_bytes: Largest size of what the learner has not taken. Beyond it the oldest chunk that was not
            sent is dropped, and counted.
        kept_bytes: Largest size of what it has taken; beyond it the oldest is let go.

    Attributes:
        dropped_steps: Env steps of the chunks that were dropped.
    """

    def __init__(self, waiting_bytes: int, kept_bytes: int) -> None:
        self._waiting_bytes, self._kept_bytes = waiting_bytes, kept_bytes
        self._kept: deque[Chunk] = deque()
        self._sent: deque[Chunk] = deque()
        self._unsent: deque[Chunk] = deque()
        self._size_kept = self._size_waiting = 0
        self.dropped_steps = 0

    @property
    def num_waiting(self) -> int:
        """Number of chunks that the learner has not taken."""
        return len(self._sent) + len(self._unsent)

    @property
    def oldest(self) -> int | None:
        """Number of the oldest chunk that is still here; None where there is none."""
        for part in (self._kept, self._sent, self._unsent):
            if part:
                return part[0].seq
        return None

    def put(self, chunk: Chunk) -> None:
        """Add the newest chunk."""
        self._unsent.append(chunk)
        self._size_waiting += len(chunk.frame)
        while self._size_waiting > self._waiting_bytes and len(self._unsent) > 1:
            dropped = self._unsent.popleft()
            self._size_waiting -= len(dropped.frame)
            self.dropped_steps += dropped.steps

    def take_unsent(self, num_bytes: int) -> list[bytes]:
        """Return the oldest unsent chunks, of about so many bytes together; they count as sent."""
        taken, size = [], 0
        while self._unsent and size < num_bytes:
            chunk = self._unsent.popleft()
            self._sent.append(chunk)
            taken.append(chunk.frame)
            size += len(chunk.frame)
        return taken

    def acknowledge(self, seq: int) -> None:
        """Note that the learner has taken all chunks up to ``seq``."""
        while self._sent and self._sent[0].seq <= seq:
            chunk = self._sent.popleft()
            self._size_waiting -= len(chunk.frame)
            self._size_kept += len(chunk.frame)
            self._kept.append(chunk)
        while self._kept and self._size_kept > self._kept_bytes:
            self._size_kept -= len(self._kept.popleft().frame)

    def rewind(self, received: int) -> None:
        """Send again all that is here after ``received``: a new stream begins."""
        everything = [*self._kept, *self._sent, *self._unsent]
        self._kept = deque(chunk for chunk in everything if chunk.seq <= received)
        self._sent = deque()
        self._unsent = deque(chunk for chunk in everything if chunk.seq > received)
        self._size_kept = sum(len(chunk.frame) for chunk in self._kept)
        self._size_waiting = sum(len(chunk.frame) for chunk in self._unsent)

    def clear(self) -> None:
        """Forget everything: the run that it was played for is over."""
        self._kept.clear()
        self._sent.clear()
        self._unsent.clear()
        self._size_kept = self._size_waiting = 0
