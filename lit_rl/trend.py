"""Whether a loss rises or falls, in words that do not depend on its scale or its zero."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Literal, NamedTuple

WINDOW = 100
"""So many of the newest values decide the trend."""
MIN_VALUES = 20
SIGNIFICANCE = 0.05


class Trend(NamedTuple):
    """A trend over the newest values.

    Attributes:
        label: ``insufficient`` for fewer than 20 values.
        slope: Change per row (Theil 1950, Sen 1968: the median slope of all pairs).
        intercept: Height of the line at the first value.
        p_value: Two-sided p-value of the test of Mann (1945) and Kendall for no trend.
    """

    label: Literal["rising", "falling", "stable", "insufficient"]
    slope: float | None = None
    intercept: float | None = None
    p_value: float | None = None


def trend(values: Sequence[float]) -> Trend:
    """Judge finite values in their order.

    A trend needs two things: the order of the values is unlikely by chance (Mann-Kendall, p < 0.05), and the
    line moves by more than the scatter around it (1.4826 times the median absolute residual). Neither changes
    when the values are multiplied or shifted.
    """
    count = len(values)
    if count < MIN_VALUES:
        return Trend("insufficient")
    scale = max(map(abs, values)) or 1.0  # so that no difference overflows
    scaled = [value / scale for value in values]
    pairs = [(scaled[j] - scaled[i], j - i) for i in range(count) for j in range(i + 1, count)]
    slope = median(rise / run for rise, run in pairs)
    intercept = median(value - slope * i for i, value in enumerate(scaled))
    scatter = 1.4826 * median(abs(value - intercept - slope * i) for i, value in enumerate(scaled))
    p_value = _mann_kendall([rise for rise, _ in pairs], scaled)
    moves = abs(slope) * (count - 1) > scatter and p_value < SIGNIFICANCE
    label = "stable" if not moves else "rising" if slope > 0 else "falling"
    return Trend(label, slope * scale, intercept * scale, p_value)


def _mann_kendall(differences: Sequence[float], values: Sequence[float]) -> float:
    """Compute the two-sided p-value by the normal approximation, corrected for ties and continuity."""
    n = len(values)
    score = sum((rise > 0) - (rise < 0) for rise in differences)
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values())
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    if score == 0 or variance <= 0:
        return 1.0
    return math.erfc((abs(score) - 1) / math.sqrt(2 * variance))
