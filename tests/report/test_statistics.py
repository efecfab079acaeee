import math

import numpy as np
import pytest

from lit_rl.report.statistics import iqm, mean_interval, stratified_bootstrap, student_t


def test_interquartile_mean_by_hand():
    assert iqm(np.array([9.0, 1.0, 2.0, 100.0])) == 5.5  # without 1 and 100
    assert iqm(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 100.0])) == 3.5  # of 2, 3, 4, 5
    assert iqm(np.array([1.0, 2.0, 9.0])) == 4.0  # nothing is left out of three
    assert iqm(np.array([7.0])) == 7.0


def test_interquartile_mean_along_an_axis():
    values = np.random.default_rng(0).normal(size=(9, 5))
    by_column = [np.mean(sorted(column)[2:7]) for column in values.T.tolist()]
    np.testing.assert_allclose(iqm(values), by_column)
    np.testing.assert_allclose(iqm(values.T, axis=1), by_column)


@pytest.mark.parametrize(
    ("degrees", "quantile"),  # printed tables, 0.975
    [
        (1, 12.7062),
        (2, 4.3027),
        (3, 3.1824),
        (4, 2.7764),
        (9, 2.2622),
        (10, 2.2281),
        (29, 2.0452),
        (100, 1.9840),
    ],
)
def test_quantiles_of_student(degrees, quantile):
    assert student_t(degrees) == pytest.approx(quantile, abs=6e-5)


def test_quantiles_of_student_have_no_value_below_one_degree():
    assert np.isnan(student_t(0))
    np.testing.assert_allclose(student_t(np.array([-1, 1, 2])), [np.nan, 12.7062, 4.3027], atol=6e-5)


def test_quantile_of_student_by_integration():
    degrees, t = 5, student_t(5, 0.8)
    x = np.linspace(-t, t, 20_001)
    scale = math.gamma(3) / (math.sqrt(degrees * math.pi) * math.gamma(2.5))
    assert np.trapezoid(scale * (1 + x**2 / degrees) ** -3, x) == pytest.approx(0.8, abs=1e-6)


def test_mean_and_interval_by_hand():
    mean, low, high = mean_interval(np.array([1.0, 2.0, 6.0]))
    half = 4.302653 * math.sqrt(7.0) / math.sqrt(3)  # sample variance 7
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half), rel=1e-5)


def test_missing_values_are_left_out_of_the_mean():
    nan = np.nan
    values = np.array([[1.0, 1.0, nan, nan], [3.0, nan, 5.0, nan], [5.0, nan, 7.0, nan]])
    mean, low, high = mean_interval(values)
    np.testing.assert_array_equal(mean, [3.0, 1.0, 6.0, nan])
    np.testing.assert_array_equal(np.isnan(low), [False, True, False, True])
    two = mean_interval(np.array([5.0, 7.0]))
    assert (low[2], high[2]) == (two.low, two.high)


def test_bootstrap_resamples_within_strata_as_the_slow_twin():
    strata = [np.array([1.0, 2.0, 3.0]), np.array([100.0, 120.0])]
    interval = stratified_bootstrap(strata, num_resamples=400, seed=3)
    rng = np.random.default_rng(3)
    indices = [rng.integers(3, size=(400, 3)), rng.integers(2, size=(400, 2))]
    found = []
    for k in range(400):
        drawn = sorted([strata[0][i] for i in indices[0][k]] + [strata[1][i] for i in indices[1][k]])
        found.append(sum(drawn[1:4]) / 3)
    assert interval.center == pytest.approx((2 + 3 + 100) / 3)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(found, [0.025, 0.975])))


@pytest.mark.parametrize(
    ("sample", "low", "high"),
    [
        ([0.0, 1.0], 0.0, 1.0),  # the mean is 0, 1/2 or 1 with probability 1/4, 1/2 and 1/4
        ([0.0, 0.0, 3.0], 0.0, 3.0),  # 3 with probability 1/27, more than 0.025
        ([0.0, 0.0, 0.0, 4.0], 0.0, 3.0),  # 4 with probability 1/256, 3 with 12/256
        ([5.0, 5.0], 5.0, 5.0),
    ],
)
def test_bootstrap_of_a_mean_by_hand(sample, low, high):
    interval = stratified_bootstrap([np.array(sample)], np.mean)
    assert (interval.center, interval.low, interval.high) == (np.mean(sample), low, high)


def test_bootstrap_repeats_itself_and_handles_curves():
    curves = np.random.default_rng(1).normal(size=(6, 4))
    first, second = stratified_bootstrap([curves]), stratified_bootstrap([curves])
    np.testing.assert_array_equal(first.low, second.low)
    assert first.center.shape == first.low.shape == first.high.shape == (4,)
    assert (first.low <= first.center).all()
    assert (first.center <= first.high).all()


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(200, 20))
    intervals = [stratified_bootstrap([sample], np.mean, 300) for sample in samples]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    assert 0.88 < covered < 0.98


def test_one_run_gives_no_interval():
    interval = stratified_bootstrap([np.array([4.0])])
    assert interval.center == 4.0
    assert np.isnan([interval.low, interval.high]).all()
    strata = [np.array([4.0]), np.array([1.0, 3.0])]
    assert np.isnan(stratified_bootstrap(strata, np.mean).low)
