import statistics

import numpy as np
import pytest

from lit_rl.callbacks.paper.running_statistics import RunningStatistics


def of(values):
    running = RunningStatistics()
    for value in values:
        running.add(value)
    return running


def test_by_hand():
    running = of([1.0, 2.0, 6.0])
    assert (running.count, running.lowest, running.highest) == (3, 1.0, 6.0)
    assert running.mean == pytest.approx(3.0)
    assert running.std == pytest.approx(7.0**0.5)


def test_fewer_than_two_values():
    assert RunningStatistics().std == 0.0
    assert of([5.0]).std == 0.0


@pytest.mark.parametrize("cut", [0, 1, 30, 100])
def test_merged_parts_are_the_whole(cut):
    values = (1e6 + np.random.default_rng(0).normal(size=100)).tolist()
    merged = of(values[:cut])
    merged.merge(of(values[cut:]))
    assert merged.count == 100
    assert merged.mean == pytest.approx(statistics.fmean(values), rel=1e-12)
    assert merged.std == pytest.approx(statistics.stdev(values), rel=1e-6)
    assert (merged.lowest, merged.highest) == (min(values), max(values))
