"""Mean, standard deviation and range of numbers that are not kept."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class RunningStatistics:
    """Statistics of numbers seen one by one, in constant memory (Welford 1962).

    ``delta = x - mean; mean += delta / n; squares += delta * (x - mean)``
    """

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, value: float) -> None:
        """Take one number in."""
        self.count += 1
        delta = value - self.mean
        self.mean += delta / self.count
        self.squares += delta * (value - self.mean)
        self.lowest = min(self.lowest, value)
        self.highest = max(self.highest, value)

    def merge(self, other: RunningStatistics) -> None:
        """Take in all numbers of another one (Chan 1979, pairwise update)."""
        if not other.count:
            return
        total = self.count + other.count
        delta = other.mean - self.mean
        self.squares += other.squares + delta**2 * self.count * other.count / total
        self.mean += delta * other.count / total
        self.count = total
        self.lowest = min(self.lowest, other.lowest)
        self.highest = max(self.highest, other.highest)

    @property
    def std(self) -> float:
        """Sample standard deviation; 0 for fewer than two numbers."""
        return math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else 0.0
