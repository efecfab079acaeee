"""The picture of a network."""

from __future__ import annotations

import numpy as np

from lit_rl.envs.uav.network import UAVNetwork


def test_frame_is_an_image_of_the_network_asked_for() -> None:
    env = UAVNetwork(2, gateways=[[0, 0, 25], [1000, 1000, 25]])
    env.reset(0)
    first, second = env.frame(0), env.frame(1)
    assert first.shape == second.shape == (640, 640, 3)
    assert first.dtype == np.uint8
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 20
    assert (first != second).any()
    np.testing.assert_array_equal(first, env.frame())  # looking changes nothing
