"""Chunks on their way to the learner: not sent yet, sent and not taken yet, taken and kept for a while."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from lit_rl.remote.wire import Frame


class Chunk(NamedTuple):
    """An encoded chunk: its number, its env steps, and its bytes."""

    seq: int
    steps: int
    frame: bytes


class Spool:
    """Keeps chunks in the order of their numbers, within two bounds of memory.

    Args:
        waiting_bytes: Largest size of what the learner has not taken. Beyond it the oldest chunk that was not
            sent is dropped, and counted. None drops nothing: whoever plays waits.
        kept_bytes: Largest size of what it has taken; beyond it the oldest is let go.

    Attributes:
        dropped_steps: Env steps of the chunks that were dropped.
        lost_steps: Env steps of chunks that were taken, let go, and then forgotten by the learner.
        newest: Number of the newest chunk that was put in.
    """

    def __init__(self, waiting_bytes: int | None, kept_bytes: int) -> None:
        self._waiting_bytes, self._kept_bytes = waiting_bytes, kept_bytes
        self.dropped_steps = self.lost_steps = 0
        self.clear()

    def clear(self) -> None:
        """Forget everything: the run that it was played for is over."""
        self._kept: deque[Chunk] = deque()
        self._sent: deque[Chunk] = deque()
        self._unsent: deque[Chunk] = deque()
        self._size_kept = self._size_waiting = 0
        self._gone: list[tuple[int, int]] = []  # first and last numbers of what was counted, ascending
        self._told = 0  # up to which number the present stream has told of chunks
        self.newest = 0

    @property
    def num_waiting(self) -> int:
        """Number of chunks that the learner has not taken."""
        return len(self._sent) + len(self._unsent)

    def put(self, chunk: Chunk) -> None:
        """Add the newest chunk."""
        self._unsent.append(chunk)
        self.newest = chunk.seq
        self._size_waiting += len(chunk.frame)
        if self._waiting_bytes is None:
            return
        while self._size_waiting > self._waiting_bytes and len(self._unsent) > 1:
            dropped = self._unsent.popleft()
            self._size_waiting -= len(dropped.frame)
            if self._count_gone(dropped.seq, dropped.seq):
                self.dropped_steps += dropped.steps

    def take_unsent(self, num_bytes: int) -> list[bytes]:
        """Return the oldest unsent chunks, of about so many bytes together; they count as sent.

        Where chunks are missing before one of them, or after the last one, a frame ``skip`` says so.
        """
        taken: list[bytes] = []
        size = 0
        while size < num_bytes:
            missing = self._unsent[0].seq - 1 if self._unsent else self.newest
            if missing > self._told:
                taken.append(Frame("skip", {"seq": missing}).encode())
                self._told = missing
            if not self._unsent:
                break
            chunk = self._unsent.popleft()
            self._sent.append(chunk)
            self._told = chunk.seq
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

    def rewind(self, received: int, chunk_steps: int) -> int:
        """Send again all that is here after ``received``: a new stream begins.

        Args:
            received: Number of the newest chunk that the learner has.
            chunk_steps: Env steps of a chunk.

        Returns:
            Number of chunks that it has forgotten and that are no longer here.
        """
        everything = [*self._kept, *self._sent, *self._unsent]
        self._kept = deque(chunk for chunk in everything if chunk.seq <= received)
        self._sent = deque()
        self._unsent = deque(chunk for chunk in everything if chunk.seq > received)
        self._size_kept = sum(len(chunk.frame) for chunk in self._kept)
        self._size_waiting = sum(len(chunk.frame) for chunk in self._unsent)
        self._told = received
        lost = self._count_gone(received + 1, self._unsent[0].seq - 1 if self._unsent else self.newest)
        self.lost_steps += lost * chunk_steps
        return lost

    def _count_gone(self, first: int, last: int) -> int:
        """Note that the chunks from ``first`` to ``last`` are gone; return how many were not noted before."""
        new = last - first + 1 - sum(max(0, min(last, b) - max(first, a) + 1) for a, b in self._gone)
        if last < first or new == 0:
            return 0
        apart = [(a, b) for a, b in self._gone if b < first - 1 or a > last + 1]
        joined = [span for span in self._gone if span not in apart]
        first, last = min([first, *(a for a, _ in joined)]), max([last, *(b for _, b in joined)])
        self._gone = sorted([*apart, (first, last)])
        return new
