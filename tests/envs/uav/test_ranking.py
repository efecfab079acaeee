"""The k smallest of each row, against a stable argsort."""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.ranking import rank_down, rank_up, smallest


def test_smallest_is_a_stable_argsort() -> None:
    values = np.random.default_rng(0).exponential(1e4, (7, 5, 50)).astype(np.float32)
    values[..., 10:20] = np.round(values[..., 10:20])
    values[..., 20:30] = values[..., 10:20]  # equals
    values[0, 0, :3] = 0.0
    expected = values.argsort(-1, kind="stable")
    np.testing.assert_array_equal(smallest(rank_up(values), 50), expected)
    np.testing.assert_array_equal(smallest(rank_up(values), 10), expected[..., :10])


def test_largest_first() -> None:
    values = np.array([[3.0, 0.0, 7.5, 7.5, 1e-30]], np.float32)
    np.testing.assert_array_equal(smallest(rank_down(values), 4), [[2, 3, 0, 4]])
