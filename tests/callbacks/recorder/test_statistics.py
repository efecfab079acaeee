import math
import random
import statistics

import pytest

from lit_rl.callbacks.recorder import statistics as module
from lit_rl.callbacks.recorder.statistics import LossStatistics


def summary_of(values):
    tracked = LossStatistics()
    for number, value in enumerate(values):
        tracked.add(10 * number, 1000 + number / 4, value)
    return tracked.summary()


def test_by_hand():
    summary = summary_of([1.0, 2.0, 6.0])
    assert summary == {
        "count": 3,
        "nan": 0,
        "inf": 0,
        "last": 6,
        "mean": pytest.approx(3),
        "std": pytest.approx(math.sqrt(7)),
        "min": 1,
        "max": 6,
        "p50": 2,
        "trend": "insufficient",
        "slope": None,
        "p_value": None,
        "trend_line": None,
        "first_step": 0,
        "last_step": 20,
        "rate": pytest.approx(4),
    }


def test_slow_twin():
    rng = random.Random(0)
    values = [rng.gauss(1e6, 1) for _ in range(500)]
    summary = summary_of(values)
    assert summary["mean"] == pytest.approx(statistics.mean(values), rel=1e-12)
    assert summary["std"] == pytest.approx(statistics.stdev(values), rel=1e-9)
    assert summary["p50"] == statistics.median(values)


def test_not_finite_values_are_counted_and_spoil_nothing():
    tracked = LossStatistics()
    for step, value in enumerate([1.0, math.nan, math.inf, 3.0, -math.inf]):
        tracked.add(step, step, value)
    summary = tracked.summary()
    assert [summary[key] for key in ("count", "nan", "inf", "mean", "min", "max")] == [5, 1, 2, 2, 1, 3]
    assert summary["last"] == -math.inf
    assert tracked.bad_steps == [1, 2, 4]
    assert tracked.curve.points()["mean"] == [1, 3]


def test_only_nan_has_no_statistics():
    summary = summary_of([math.nan])
    assert (summary["count"], summary["nan"]) == (1, 1)
    assert summary["mean"] is summary["std"] is summary["min"] is summary["p50"] is summary["rate"] is None


def test_trend_is_that_of_the_newest_hundred():
    summary = summary_of([*(1000.0 - i for i in range(1000)), *(float(i) for i in range(100))])
    assert summary["trend"] == "rising"
    assert summary["slope"] == pytest.approx(1)
    assert summary["trend_line"] == [(10_000, pytest.approx(0)), (10_990, pytest.approx(99))]


def test_median_of_many_is_that_of_a_sample(monkeypatch):
    monkeypatch.setattr(module, "SAMPLE", 1000)
    tracked = LossStatistics()
    for step in range(20_000):
        tracked.add(step, step, step / 20_000)
    assert len(tracked._sample) == 1000
    assert tracked.summary()["p50"] == pytest.approx(0.5, abs=0.05)  # three standard errors
