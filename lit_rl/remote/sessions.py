"""A learner keeps, of its actors, connections, counts of their experience, and arrived chunks."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lit_rl.remote.wire import Frame


@dataclass(frozen=True)
class Arrival:
    """An arrived chunk; those of an actor come in the order in which it played them.

    Args:
        actor: Name of the actor.
        incarnation: Start of the actor.
        seq: Number of the chunk, or of the last chunk that will never come.
        frame: A frame ``chunk`` or ``skip``.
        missing: Chunks up to ``seq`` that will never come, of a frame ``skip``.
    """

    actor: str
    incarnation: str
    seq: int
    frame: Frame
    missing: int = 0


@dataclass
class Known:
    """Counts of the experience of one start of an actor.

    Args:
        actor: Name of the actor.
        received: Number of its newest chunk that arrived.
        inserted: Number of its newest chunk that the trainer took.
    """

    actor: str = ""
    received: int = 0
    inserted: int = 0


@dataclass
class Session:
    """One connection of one actor."""

    key: str
    actor: str
    incarnation: str
    realtime: bool
    heard: float
    is_open: bool = False
    is_over: bool = False
    refusal: str = ""  # why its actor must not come back
    changes: int = 0  # counts what there is to tell
    waiting: int = 0  # chunks in the queue
    has_version: int = -1  # newest policy that was sent
    credit: tuple[int, int, int] | None = None  # what was sent last
    produced: int = 0
    lock: threading.Condition = field(default_factory=threading.Condition)

    def tell(self) -> None:
        """Wake the thread that tells an actor what is new."""
        with self.lock:
            self.changes += 1
            self.lock.notify_all()
