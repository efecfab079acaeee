"""The latest episodes of a rank, over which means are logged."""

from __future__ import annotations

from collections import deque
from typing import Any

from lit_rl.types import Episodes

WINDOW = 100


class RecentEpisodes:
    """Returns and lengths of the last hundred episodes.

    Attributes:
        returns: Undiscounted returns, the newest last.
        lengths: Lengths in env steps.
    """

    def __init__(self) -> None:
        self.returns: deque[float] = deque(maxlen=WINDOW)
        self.lengths: deque[int] = deque(maxlen=WINDOW)

    def add(self, episodes: Episodes) -> None:
        """Add the episodes that ended in a batch."""
        self.returns.extend(episodes["episode_return"].tolist())
        self.lengths.extend(episodes["episode_length"].tolist())

    def totals(self) -> list[float]:
        """Return the sum of the returns, that of the lengths, and the number of episodes."""
        return [sum(self.returns), sum(self.lengths), len(self.returns)]

    def clear(self) -> None:
        """Forget all episodes."""
        self.returns.clear()
        self.lengths.clear()

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain lists."""
        return {"returns": list(self.returns), "lengths": list(self.lengths)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`state_dict` returned."""
        self.returns.extend(state["returns"])
        self.lengths.extend(state["lengths"])
