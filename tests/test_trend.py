import math
import random
from itertools import combinations
from statistics import median

import pytest

from lit_rl.trend import WINDOW, Trend, trend


def noise(count=WINDOW, seed=0):
    rng = random.Random(seed)
    return [rng.gauss(0, 1) for _ in range(count)]


def test_by_hand():
    """Twenty values 0, 1, ... 19: slope 1, S = 190, variance 20 * 19 * 45 / 18 = 950."""
    judged = trend([float(i) for i in range(20)])
    assert (judged.label, judged.slope, judged.intercept) == ("rising", pytest.approx(1), pytest.approx(0))
    assert judged.p_value == pytest.approx(math.erfc(189 / math.sqrt(950) / math.sqrt(2)))


def test_slow_twin():
    values = noise(30)
    slope = median((b - a) / (j - i) for (i, a), (j, b) in combinations(enumerate(values), 2))
    judged = trend(values)
    assert judged.slope == pytest.approx(slope)
    assert judged.intercept == pytest.approx(median(v - slope * i for i, v in enumerate(values)))


@pytest.mark.parametrize("count", [0, 1, 19])
def test_few_values_are_insufficient(count):
    assert trend([1.0] * count) == Trend("insufficient")


@pytest.mark.parametrize("value", [0.0, -3.5, 1e-300, 1e300])
def test_constant_is_stable(value):
    judged = trend([value] * 50)
    assert (judged.label, judged.slope, judged.p_value) == ("stable", 0, 1)


def test_one_outlier_makes_no_trend():
    assert trend([*noise(99), 1e9]).label == "stable"


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("shift", [0.0, 100.0, -1e4])
@pytest.mark.parametrize(("rise", "label"), [(3, "rising"), (-3, "falling"), (0, "stable")])
def test_scale_and_shift_change_nothing(scale, shift, rise, label):
    values = [x + rise * i / WINDOW for i, x in enumerate(noise())]
    judged = trend([scale * (x + shift) for x in values])
    assert judged.label == label
    assert judged.slope == pytest.approx(scale * trend(values).slope, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_rates_of_error(scale):
    """Of 40 series of noise at most 5 % get a trend; ramps of 10 % of the level with noise of 3 % all do."""
    false = sum(trend([scale * x for x in noise(seed=seed)]).label != "stable" for seed in range(40))
    assert false <= 2
    for seed in range(20):
        for sign, label in ((1, "rising"), (-1, "falling")):
            ramp = [scale * (1 + sign * 0.1 * i / WINDOW + 0.03 * x) for i, x in enumerate(noise(seed=seed))]
            assert trend(ramp).label == label
