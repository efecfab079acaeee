import random

import pytest

from lit_rl.callbacks.recorder.curve import MAX_BUCKETS, Curve


def curve_of(values, **kwargs):
    curve = Curve(**kwargs)
    for step, value in enumerate(values):
        curve.add(step, value)
    return curve.points()


def test_few_points_are_kept_as_they_are():
    assert curve_of([3.0, 1.0, 2.0]) == {
        "step": [0, 1, 2],
        "mean": [3, 1, 2],
        "low": [3, 1, 2],
        "high": [3, 1, 2],
    }


def test_pairs_are_merged_when_all_buckets_are_full():
    assert curve_of([1.0, 3.0, 5.0, 9.0, 4.0], max_buckets=4) == {
        "step": [0.5, 2.5, 4],
        "mean": [2, 7, 4],
        "low": [1, 5, 4],
        "high": [3, 9, 4],
    }


@pytest.mark.parametrize("count", [999, 1000, 1001, 10_000, 54_321])
def test_bounded_and_no_peak_is_lost(count):
    rng = random.Random(count)
    values = [rng.gauss(0, 1) for _ in range(count)]
    points = curve_of(values)
    assert len(points["mean"]) <= MAX_BUCKETS
    assert len(points["mean"]) > 400 or count < 400
    assert min(points["low"]) == min(values)
    assert max(points["high"]) == max(values)
    assert points["step"] == sorted(points["step"])
    assert all(
        low <= mean <= high
        for low, mean, high in zip(points["low"], points["mean"], points["high"], strict=True)
    )


def test_empty():
    assert Curve().points() == {"step": [], "mean": [], "low": [], "high": []}
