"""Statistics over runs: the interquartile mean, and 95 % intervals by SciPy.

Axes: I runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """An estimate with its 95 % interval, each a float or an array; NaN where one run gives none."""

    center: np.ndarray
    low: np.ndarray
    high: np.ndarray


def iqm(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Compute the interquartile mean: the mean without the lowest and the highest quarter.

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
    """Compute ``statistic`` of all values with its percentile bootstrap interval, resampled within strata.

    Args:
        strata: One array ``(I, ...)`` of I runs for each environment; trailing axes are equal. A stratum of
            one run cannot be resampled, so then there is no interval.
        statistic: Called with ``axis``, the axis of runs.
        num_resamples: More makes the ends of the interval less random.
        seed: Seed of the resampling; equal runs give equal intervals.
    """
    center = statistic(np.concatenate(strata), axis=0)
    if any(len(values) < 2 for values in strata):
        return Interval(center, np.full_like(center, np.nan), np.full_like(center, np.nan))
    from scipy.stats import bootstrap  # a second, for papers only

    def of_all(*samples: np.ndarray, axis: int) -> np.ndarray:
        return statistic(np.concatenate(samples, axis=axis), axis=axis)

    rng = np.random.default_rng(seed)
    result = bootstrap(strata, of_all, axis=0, n_resamples=num_resamples, method="percentile", rng=rng)
    return Interval(center, *result.confidence_interval)


def mean_interval(values: np.ndarray) -> Interval:
    """Compute the mean over axis 0 with Student's t interval.

    NaN is left out of the mean, and fewer than two values give no interval.
    """
    is_there = np.isfinite(values)
    count = is_there.sum(axis=0)
    total = np.where(is_there, values, 0.0).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        squares = np.where(is_there, (values - mean) ** 2, 0.0).sum(axis=0)
        error = np.sqrt(squares / (count - 1) / count)
    half = student_t(count - 1) * error
    return Interval(mean, mean - half, mean + half)


def student_t(degrees: ArrayLike, confidence: float = 0.95) -> np.ndarray:
    """Return the t such that Student's distribution stays within ``+-t`` with probability ``confidence``.

    Args:
        degrees: Degrees of freedom; NaN results where they are below 1.
        confidence: Probability between 0 and 1.
    """
    from scipy.special import stdtrit  # scipy.stats.t.ppf calls it, but takes a second longer to import

    return stdtrit(degrees, (1 + confidence) / 2)
