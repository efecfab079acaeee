"""Statistics over runs: interquartile mean, intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """An estimate with its 95 % interval, each a float or an array; NaN where one run gives none."""

    center: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Interquartile mean: the mean without the lowest and the highest quarter.

    Agarwal 2021 (2108.13264). ``floor(n / 4)`` values are left out at each end, so it is the mean for n < 4.
    """
    count = values.shape[axis]
    cut = count // 4
    ordered = np.sort(values, axis=axis)
    return ordered.take(range(cut, count - cut), axis=axis).mean(axis=axis)


def stratified_bootstrap(
    strata: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray] = iqm,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """``statistic`` of all values with its percentile bootstrap interval, resampled within each stratum.

    Args:
        strata: One array ``(R, ...)`` of R runs for each environment; trailing axes are equal.
        statistic: Called with ``axis``, the axis of runs.
        num_resamples: More makes the ends of the interval less random.
        seed: Of the resampling; the same runs give the same interval.
    """
    center = statistic(np.concatenate(strata), axis=0)
    if all(len(values) < 2 for values in strata):
        return Interval(center, np.full_like(center, np.nan), np.full_like(center, np.nan))
    rng = np.random.default_rng(seed)
    indices = [rng.integers(len(values), size=(num_resamples, len(values))) for values in strata]
    resampled = [values[index] for values, index in zip(strata, indices, strict=True)]  # (B, R, ...)
    low, high = np.quantile(statistic(np.concatenate(resampled, axis=1), axis=1), [0.025, 0.975], axis=0)
    return Interval(center, low, high)


def mean_interval(values: np.ndarray) -> Interval:
    """Mean over axis 0 with Student's t interval; NaN is left out, fewer than two values give no interval."""
    is_there = np.isfinite(values)
    count = is_there.sum(axis=0)
    total = np.where(is_there, values, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        squares = np.where(is_there, (values - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(squares / (count - 1) / count)
    quantile = {int(n): student_t(int(n) - 1) if n > 1 else np.nan for n in np.unique(count)}
    half = np.vectorize(quantile.__getitem__, otypes=[float])(count) * error
    return Interval(mean, mean - half, mean + half)


def student_t(degrees: int, confidence: float = 0.95) -> float:
    """The t that Student's distribution keeps within ``+-t`` with probability ``confidence``.

    Bisection on the angle ``atan(t / sqrt(degrees))``, in which the probability has a finite series.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        is_below = _probability_within(middle, degrees) < confidence
        low, high = (middle, high) if is_below else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _probability_within(angle: float, degrees: int) -> float:
    """Abramowitz and Stegun 26.7.3 (odd degrees) and 26.7.4 (even)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    is_odd = degrees % 2
    term, total = (cosine if is_odd else 1.0), 0.0
    for k in range(degrees // 2):
        total += term
        term *= cosine**2 * (2 * k + 1 + is_odd) / (2 * k + 2 + is_odd)
    return (angle + sine * total) * 2 / math.pi if is_odd else sine * total
