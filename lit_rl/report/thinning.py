"""A column of any length in bounded memory: of many values the extremes are kept, and the newest.

Axes: X points.
"""

from __future__ import annotations

from array import array

import numpy as np

KEPT_GROUPS = 20_000
"""A column that was thinned has between half as many and so many groups, of three points each."""

RAW_VALUES = 100_000
"""So many values are kept as they are before a column is thinned."""

NEWEST = 1000
"""Always kept as they are."""


class Column:
    """Collects values over steps, in the order in which they were written.

    Of groups of ``stride`` neighbours it keeps the lowest value, the highest and the first that is not
    finite; ``stride`` doubles as the column grows.
    """

    def __init__(self) -> None:
        self.stride = 1
        self._steps, self._values = array("d"), array("d")
        self._groups = np.empty((0, 3, 2))  # (groups, 3, 2): three points of step and value

    def append(self, step: float, value: float) -> None:
        """Add the next value."""
        self._steps.append(step)
        self._values.append(value)
        if len(self._values) >= RAW_VALUES:
            self._thin()

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """Return steps and values ``(X,)``."""
        groups = self._groups.reshape(-1, 2)
        steps, values = np.array(self._steps), np.array(self._values)
        return np.concatenate([groups[:, 0], steps]), np.concatenate([groups[:, 1], values])

    def _thin(self) -> None:
        """Put all but the newest values into groups, and make groups larger when they are too many."""
        self.stride = max(self.stride, 2)
        count = (len(self._values) - NEWEST) // self.stride * self.stride
        raw = np.stack([np.array(self._steps[:count]), np.array(self._values[:count])], axis=1)
        self._steps, self._values = self._steps[count:], self._values[count:]
        self._groups = np.concatenate([self._groups, _extremes(raw.reshape(-1, self.stride, 2))])
        while len(self._groups) > KEPT_GROUPS:
            pairs = len(self._groups) // 2 * 2
            merged = _extremes(self._groups[:pairs].reshape(pairs // 2, 6, 2))
            self._groups = np.concatenate([merged, self._groups[pairs:]])
            self.stride *= 2


def _extremes(groups: np.ndarray) -> np.ndarray:
    """Choose the lowest, the highest and the first value that is not finite of groups ``(groups, n, 2)``.

    Returns:
        ``(groups, 3, 2)`` in the order in which they were written; a point may stand there several times.
    """
    values = groups[:, :, 1]
    is_finite = np.isfinite(values)
    lowest = np.where(is_finite, values, np.inf).argmin(axis=1)
    highest = np.where(is_finite, values, -np.inf).argmax(axis=1)
    not_finite = np.where(is_finite.all(axis=1), lowest, is_finite.argmin(axis=1))
    chosen = np.sort(np.stack([lowest, highest, not_finite], axis=1), axis=1)
    return np.take_along_axis(groups, chosen[:, :, None], axis=1)
