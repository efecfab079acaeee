"""A curve of bounded size over any number of points, from which no peak is lost."""

from __future__ import annotations

MAX_BUCKETS = 1000
"""Lowest and highest value of each bucket make 2,000 points."""


class Curve:
    """Groups points into at most ``max_buckets`` of equally many; when all are full, pairs are merged.

    Args:
        max_buckets: Largest number of buckets; it must be even.
    """

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._max_buckets = max_buckets
        self._width = 1
        self._buckets: list[tuple[int, float, float, float, float]] = []  # count, steps, values, low, high

    def add(self, step: float, value: float) -> None:
        """Add a finite point."""
        if self._buckets and self._buckets[-1][0] < self._width:
            self._buckets[-1] = _merge(self._buckets[-1], (1, step, value, value, value))
            return
        if len(self._buckets) == self._max_buckets:
            pairs = zip(self._buckets[::2], self._buckets[1::2], strict=True)
            self._buckets = [_merge(left, right) for left, right in pairs]
            self._width *= 2
        self._buckets.append((1, step, value, value, value))

    def points(self) -> dict[str, list[float]]:
        """Mean step (``step``) and mean value (``mean``), ``low`` and ``high`` of each bucket."""
        return {
            "step": [steps / count for count, steps, *_ in self._buckets],
            "mean": [values / count for count, _, values, *_ in self._buckets],
            "low": [low for *_, low, _ in self._buckets],
            "high": [high for *_, high in self._buckets],
        }


def _merge(
    left: tuple[int, float, float, float, float], right: tuple[int, float, float, float, float]
) -> tuple[int, float, float, float, float]:
    return (
        left[0] + right[0],
        left[1] + right[1],
        left[2] + right[2],
        min(left[3], right[3]),
        max(left[4], right[4]),
    )
