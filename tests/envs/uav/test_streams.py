"""Random streams: the published generator, independent of their number, and continued exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lit_rl.envs.uav.streams import Streams


def test_keys_are_the_published_first_numbers_of_splitmix64() -> None:
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert Streams(0, 3)._key.tolist() == expected


def test_stream_i_depends_on_its_seed_alone() -> None:
    many, one = Streams(5, 4), Streams(7, 1)
    many.uniform(np.array([0, 1, 3]), 13)
    for num in (3, 1, 8):
        np.testing.assert_array_equal(many.uniform(np.array([2]), num), one.uniform(np.array([0]), num))


def test_numbers_do_not_depend_on_how_many_are_drawn_at_once() -> None:
    together, apart = Streams(1, 2), Streams(1, 2)
    rows = np.arange(2)
    parts = [apart.uniform(rows, num) for num in (2, 5, 3)]
    np.testing.assert_array_equal(together.uniform(rows, 10), np.concatenate(parts, 1))


def test_distributions() -> None:
    streams, rows = Streams(0, 200), np.arange(200)
    uniform, normal = streams.uniform(rows, 501), streams.normal(rows, 501)
    assert uniform.shape == normal.shape == (200, 501)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts, _ = np.histogram(uniform, 20, (0, 1))
    assert np.abs(counts / uniform.size - 0.05).max() < 0.003
    assert normal.mean() == pytest.approx(0, abs=0.01)
    assert normal.std() == pytest.approx(1, abs=0.01)
    assert (np.abs(normal) > 1.96).mean() == pytest.approx(0.05, abs=0.004)
    neighbours = np.corrcoef(uniform)[np.arange(199), np.arange(1, 200)]
    assert np.abs(neighbours).max() < 0.25  # five standard errors


def test_state_continues_exactly() -> None:
    streams, rows = Streams(2**64 - 1, 3), np.arange(3)  # the seeds wrap around
    streams.uniform(rows, 4)
    state = streams.get_state()
    assert all(isinstance(leaf, torch.Tensor) for leaf in state.values())
    expected = streams.uniform(rows, 6)
    other = Streams(0, 3)
    other.set_state(state)
    np.testing.assert_array_equal(other.uniform(rows, 6), expected)
