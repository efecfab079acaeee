"""Statistics of one loss, updated row by row in bounded memory."""

from __future__ import annotations

import math
import random
from array import array
from collections import deque
from statistics import median
from typing import Any

from lit_rl.callbacks.recorder.curve import Curve
from lit_rl.trend import WINDOW, Trend, trend

SAMPLE = 65_536
"""The median is exact up to so many values, and beyond that the median of a random sample of this size."""
MAX_MARKS = 200
"""So many steps with NaN or infinite values are remembered for the figure; all are counted."""


class LossStatistics:
    """Mean, spread, extremes, median, trend and curve; NaN and infinities are counted beside them."""

    def __init__(self) -> None:
        self.curve = Curve()
        self.bad_steps: list[int] = []
        self._count = self._num_nan = self._num_inf = 0
        self._mean = self._squares = 0.0  # Welford 1962
        self._min, self._max, self._last = math.inf, -math.inf, math.nan
        self._first_at: tuple[int, float] = (0, 0.0)
        self._last_at: tuple[int, float] = (0, 0.0)
        self._recent: deque[tuple[int, float]] = deque(maxlen=WINDOW)
        self._sample = array("d")
        self._random = random.Random(0)

    @property
    def _num_finite(self) -> int:
        return self._count - self._num_nan - self._num_inf

    def add(self, step: int, timestamp: float, value: float) -> None:
        """Take in one value."""
        if self._count == 0:
            self._first_at = (step, timestamp)
        self._count += 1
        self._last, self._last_at = value, (step, timestamp)
        if math.isfinite(value):
            self._add_finite(step, value)
            return
        self._num_nan += math.isnan(value)
        self._num_inf += math.isinf(value)
        if len(self.bad_steps) < MAX_MARKS:
            self.bad_steps.append(step)

    def _add_finite(self, step: int, value: float) -> None:
        change = value - self._mean
        self._mean += change / self._num_finite
        self._squares += change * (value - self._mean)
        self._min, self._max = min(self._min, value), max(self._max, value)
        self._recent.append((step, value))
        self.curve.add(step, value)
        if len(self._sample) < SAMPLE:
            self._sample.append(value)
        elif (place := self._random.randrange(self._num_finite)) < SAMPLE:
            self._sample[place] = value

    def summary(self) -> dict[str, Any]:
        """All statistics; those of the finite values are None when there are none.

        ``std`` is the sample standard deviation, ``rate`` values per second, ``slope`` the change per row.
        """
        has_finite = self._num_finite > 0
        seconds = self._last_at[1] - self._first_at[1]
        judged = trend([value for _, value in self._recent])
        return {
            "count": self._count,
            "nan": self._num_nan,
            "inf": self._num_inf,
            "last": self._last if self._count else None,
            "mean": self._mean if has_finite else None,
            "std": math.sqrt(self._squares / (self._num_finite - 1)) if self._num_finite > 1 else None,
            "min": self._min if has_finite else None,
            "max": self._max if has_finite else None,
            "p50": median(self._sample) if has_finite else None,
            "trend": judged.label,
            "slope": judged.slope,
            "p_value": judged.p_value,
            "trend_line": self._line(judged),
            "first_step": self._first_at[0],
            "last_step": self._last_at[0],
            "rate": (self._count - 1) / seconds if seconds > 0 else None,
        }

    def _line(self, judged: Trend) -> list[tuple[int, float]] | None:
        """Two points (step, value) of the line through the newest values; None without a trend."""
        if judged.slope is None or judged.intercept is None:
            return None
        first, last = self._recent[0][0], self._recent[-1][0]
        return [(first, judged.intercept), (last, judged.intercept + judged.slope * (len(self._recent) - 1))]
