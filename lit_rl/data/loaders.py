"""The loader every data module returns: batches made when asked for, never ahead of the learner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class Batches:
    """An iterable of known length: Lightning prefetches others, whose data are then one policy old.

    Args:
        make: Starts one epoch: returns an iterator of ``length`` batches.
        length: Batches per epoch, equal on all ranks.
    """

    def __init__(self, make: Callable[[], Iterator[Any]], length: int) -> None:
        self._make, self._length = make, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        return self._make()

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the state of the data module holds where batches go on.

        Lightning warns about loaders without this method when a run is resumed within an epoch.
        """
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing, as :meth:`state_dict` explains."""
