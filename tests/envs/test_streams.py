from __future__ import annotations

import numpy as np

from lit_rl.envs.streams import make_keys, uniform
from lit_rl.envs.uav.streams import Streams


def test_compiled_streams_are_those_of_the_uav_network():
    key, count = make_keys(41, 3), np.zeros(3, np.uint64)
    expected = Streams(41, 3).uniform(np.array([2]), 5)[0]
    assert [uniform(2, key, count) for _ in range(5)] == expected.tolist()
    assert count.tolist() == [0, 0, 5]


def test_environment_i_has_the_stream_of_seed_plus_i():
    np.testing.assert_array_equal(make_keys(7, 3)[1:], make_keys(8, 2))
    assert len(set(make_keys(-1, 100).tolist())) == 100
