"""Notice that an environment writes into arrays that it returned before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


class ReuseWatch:
    """Compares each observation with what it was when it was returned, after the next call.

    Args:
        path: Words for the observation, for messages.
        hints: List that receives what is worth a warning.
    """

    def __init__(self, path: str, hints: list[str]) -> None:
        self._path, self._hints = path, hints
        self._method, self._is_over = "", False
        self._held: list[tuple[str, np.ndarray, np.ndarray]] = []

    def see(self, method: str, obs: Any) -> None:
        """Look at the observation before, now that ``method`` returned ``obs``; one hint is enough."""
        for path, array, was in self._held:
            if not np.array_equal(array, was, equal_nan=array.dtype.kind in "fc"):
                self._hints.append(
                    f"{method} writes into the {path} array that {self._method} returned; lit_rl copies it "
                    "in time, but a wrapper that keeps observations, such as FrameStackObservation, does "
                    "not: return a copy (obs.copy())"
                )
                self._is_over = True
                break
        if self._is_over:
            self._held = []
            return
        self._method = method
        self._held = [(path, array, array.copy()) for path, array in _arrays(self._path, obs)]


def _arrays(path: str, obs: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(obs, np.ndarray):
        yield path, obs
    elif isinstance(obs, dict):
        for key, value in obs.items():
            yield from _arrays(f"{path}[{key!r}]", value)
    elif isinstance(obs, list | tuple):
        for i, value in enumerate(obs):
            yield from _arrays(f"{path}[{i}]", value)
