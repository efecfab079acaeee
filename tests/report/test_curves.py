import json

import numpy as np
import pytest

from lit_rl.report.curves import Line, decimate, group_lines, on_grid
from lit_rl.report.tables import Series


def series(steps, values):
    return Series(np.array(steps, float), np.array(values, float))


def test_one_run_is_its_own_curve():
    curve = series([1, 2], [3, 4])
    (line,) = group_lines("PPO", 2, [("seed 1", curve)])
    assert (line.name, line.color, line.is_thin, line.band) == ("PPO", 2, False, None)
    assert line.series is curve


def test_several_runs_are_thin_with_their_mean_and_interval():
    runs = [(f"seed {k}", series([0, 10], [k, k])) for k in (1, 2, 6)]
    *thin, mean = group_lines("PPO", 0, runs)
    assert [line.name for line in thin] == ["seed 1", "seed 2", "seed 6"]
    assert all(line.is_thin for line in thin)
    assert mean.name == "PPO: mean of 3 runs"
    assert mean.series.values.tolist() == [3, 3]
    assert mean.band[0] == pytest.approx([3 - 4.302653 * np.sqrt(7 / 3)] * 2, rel=1e-5)
    assert group_lines("PPO", 0, runs, has_band=False)[-1].band is None


def test_grid_is_the_union_of_few_steps_and_curves_are_not_prolonged():
    steps, values = on_grid([series([0, 20], [0, 2]), series([10, 30], [5, 7])])
    assert steps.tolist() == [0, 10, 20, 30]
    np.testing.assert_array_equal(values, [[0, 1, 2, np.nan], [np.nan, 5, 6, 7]])


def test_grid_of_many_steps_is_even():
    steps, values = on_grid([series(range(1001), range(1001))], points=11)
    assert steps.tolist() == values[0].tolist() == list(range(0, 1001, 100))


def test_short_curves_are_kept_as_they_are():
    plain = decimate(Line("a", 1, series([1, 2, 3], [0.1234567, np.nan, np.inf]), is_thin=True), 10)
    assert plain == {"name": "a", "color": 1, "thin": True, "x": [1, 2, 3], "y": [0.12346, None, None]}


def test_bands_go_with_their_curve():
    band = (np.array([0.0, np.nan]), np.array([2.0, np.nan]))
    plain = decimate(Line("a", 1, series([1, 2], [1, 1]), band), 10)
    assert (plain["low"], plain["high"]) == ([0.0, None], [2.0, None])


def test_long_curves_keep_their_extremes_ends_and_gaps():
    values = np.random.default_rng(0).normal(size=100_000)
    values[12_345], values[54_321], values[77_777] = 99.0, -99.0, np.nan
    plain = decimate(Line("a", 0, series(range(100_000), values)), 600)
    assert 500 < len(plain["x"]) <= 602
    assert (plain["x"][0], plain["x"][-1]) == (0, 99_999)
    at = dict(zip(plain["x"], plain["y"], strict=True))
    assert (at[12_345], at[54_321], at[77_777]) == (99.0, -99.0, None)
    assert sorted(plain["x"]) == plain["x"]
    assert len(json.dumps(plain, separators=(",", ":"))) < 600 * 20
