import math

import numpy as np
import pytest

from lit_rl.report import thinning
from lit_rl.report.thinning import Column


def filled(values):
    column = Column()
    for step, value in enumerate(values):
        column.append(step, value)
    return column


def test_a_short_column_is_kept_as_it_is():
    steps, values = filled([3.0, math.nan, 1.0]).points()
    assert steps.tolist() == [0, 1, 2]
    np.testing.assert_equal(values, [3.0, math.nan, 1.0])


@pytest.fixture
def small(monkeypatch):
    for name, value in (("RAW_VALUES", 400), ("NEWEST", 5), ("KEPT_GROUPS", 40)):
        monkeypatch.setattr(thinning, name, value)


def test_a_long_column_keeps_extremes_what_is_not_finite_and_the_newest(small):
    values = [float(k % 7) for k in range(5000)]
    values[300], values[500], values[700] = 1e6, -1e6, math.nan
    column = filled(values)
    steps, kept = column.points()
    assert len(kept) <= 40 * 3 + 400
    assert {1e6, -1e6} <= set(kept.tolist())
    assert np.isnan(kept).any()
    assert kept[-5:].tolist() == values[-5:]
    assert all(
        values[int(step)] == value for step, value in zip(steps, kept, strict=True) if not math.isnan(value)
    )
    assert (np.diff(steps) >= 0).all()
    assert column.stride in (128, 256)


def test_groups_are_of_equal_length_from_the_beginning_to_the_end(small):
    """Old values are no coarser than new ones: of values that rise, both ends of each group are kept."""
    column = filled([float(k) for k in range(5000)])
    steps, _ = column.points()
    ends = np.unique(steps[:60])
    assert ends[:2].tolist() == [0, column.stride - 1]
    assert (np.diff(ends[::2]) <= column.stride).all()
