"""Curves for a chart: single runs, and the mean of a group with its interval, with few enough points.

Axes: I runs, X points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lit_rl.report.statistics import mean_interval
from lit_rl.report.tables import Series

GRID_POINTS = 200
"""Points of a mean: runs log at different steps, so they are interpolated."""


@dataclass(frozen=True, eq=False)
class Line:
    """One curve of a chart.

    Attributes:
        name: Text in the legend and under the pointer.
        color: Number of its group: colour and dash.
        series: The curve.
        band: Lower and upper end of an interval at each step.
        is_thin: A single run behind the mean of its group.
    """

    name: str
    color: int
    series: Series
    band: tuple[np.ndarray, np.ndarray] | None = None
    is_thin: bool = False


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves over env steps.

    Attributes:
        title: What is shown.
        y_label: Name and unit of the vertical axis.
        caption: Definition, under the chart.
        lines: The curves, in the order in which they are drawn.
        is_log: Whether the vertical axis is logarithmic.
    """

    title: str
    y_label: str
    caption: str
    lines: list[Line] = field(default_factory=list)
    is_log: bool = False


def group_lines(
    label: str, color: int, runs: Sequence[tuple[str, Series]], has_band: bool = True
) -> list[Line]:
    """Draw one run as a curve, and several as thin curves with their mean and, on demand, its 95 % interval.

    Args:
        label: Name of the group.
        color: Number of the group.
        runs: Name and curve of each run.
        has_band: Whether to show the interval.
    """
    if len(runs) == 1:
        return [Line(label, color, runs[0][1])]
    thin = [Line(name, color, series, is_thin=True) for name, series in runs]
    grid, values = on_grid([series for _, series in runs])
    mean = mean_interval(values)
    band = (mean.low, mean.high) if has_band else None
    return [*thin, Line(f"{label}: mean of {len(runs)} runs", color, Series(grid, mean.center), band)]


def on_grid(curves: Sequence[Series], points: int = GRID_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate curves to common steps.

    Returns:
        Steps ``(X,)`` from the first to the last of any curve, and values ``(I, X)``; NaN where a curve has
        not begun or has ended, and where it is not finite.
    """
    steps = np.unique(np.concatenate([series.steps for series in curves]))
    if len(steps) > points:
        steps = np.linspace(steps[0], steps[-1], points)
    rows = [np.interp(steps, s.steps, s.values, left=np.nan, right=np.nan) for s in curves]
    return steps, np.stack(rows)


def decimate(line: Line, points: int) -> dict[str, Any]:
    """Reduce a line to what the page needs: about ``points`` steps, extremes kept, values of five digits.

    Between two kept steps lie only values between the two neighbours' extremes: each bucket keeps its lowest
    and its highest value.
    """
    steps, values = line.series
    kept = _extremes(values, points) if len(steps) > points else np.arange(len(steps))
    plain: dict[str, Any] = {
        "name": line.name,
        "color": line.color,
        "thin": line.is_thin,
        "x": [int(step) for step in steps[kept]],
        "y": _plain(values[kept]),
    }
    if line.band is not None:
        plain["low"], plain["high"] = (_plain(end[kept]) for end in line.band)
    return plain


def _extremes(values: np.ndarray, points: int) -> np.ndarray:
    """Find the indices of both ends, and of the extremes of each of ``points / 2`` buckets."""
    kept = {0, len(values) - 1}
    for bucket in np.array_split(np.arange(len(values)), max(1, points // 2 - 1)):
        finite = bucket[np.isfinite(values[bucket])]
        if len(finite) < len(bucket):
            kept.add(int(bucket[~np.isfinite(values[bucket])][0]))  # a gap stays a gap
        if len(finite):
            kept |= {int(finite[values[finite].argmin()]), int(finite[values[finite].argmax()])}
    return np.array(sorted(kept))


def _plain(values: np.ndarray) -> list[float | None]:
    """Round to five digits, and write None for NaN and infinities, which JSON does not have."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values.tolist()]
