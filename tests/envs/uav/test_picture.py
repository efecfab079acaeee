"""The picture of one network says what its signals say."""

from __future__ import annotations

import json

import numpy as np

from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.types import Drawable


def test_says_what_the_signals_say() -> None:
    env = UAVNetwork(2, gateways=[[0, 0, 25], [1000, 1000, 25]], num_users=20)
    assert isinstance(env, Drawable)
    env.reset(0)
    for _ in range(15):
        env.step(np.ones((2, 5, 3), np.float32))
    before = env.get_state()["world"]["position"]
    seen = env.picture(1)
    world, signals = env.look(1)
    np.testing.assert_array_equal(before, env.get_state()["world"]["position"])
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    assert (seen["kind"], seen["area_m"], seen["step"], seen["time_s"]) == ("uav_bs_v0", 1000, 15, 15)
    assert seen["gateways"] == [[0, 0, 25], [1000, 1000, 25]]
    np.testing.assert_allclose(seen["uavs"], world.position[0].T, atol=0.5)
    np.testing.assert_allclose(seen["users"], world.users[0].T, atol=0.5)
    assert all(isinstance(metres, int) for point in seen["users"] for metres in point)
    for user, uav in enumerate(seen["link"]):
        served_by = np.flatnonzero(signals.serves[0, :, user])
        assert served_by.tolist() == ([] if uav < 0 else [uav])
        assert not seen["connected"][user] or uav >= 0
    assert sum(seen["connected"]) == seen["connected_users"] == signals.num_connected[0]
    assert seen["coverage"] == seen["connected_users"] / 20
    assert abs(seen["throughput_mbps"] - signals.throughput_mbps[0]) < 0.006
    assert seen["connected_users"] > 0
    for uav, route in enumerate(seen["routes"]):
        assert len(route) == (signals.routes.hops[0, uav] + 1 if route else 0)
        assert not route or (route[0], route[-1]) in ((uav, -1), (uav, -2))


def test_a_route_ends_at_the_nearest_gateway() -> None:
    env = UAVNetwork(1, num_uavs=2, gateways=[[0, 0, 25], [1000, 1000, 25]], start_distance_m=10)
    env.reset(0)  # one UAV at each gateway
    assert env.picture(0)["routes"] == [[0, -1], [1, -2]]


def test_small_areas_keep_decimals() -> None:
    env = UAVNetwork(1, area_m=50, start_distance_m=10)
    env.reset(0)
    np.testing.assert_allclose(env.picture(0)["users"], env.look(0)[0].users[0].T, atol=0.005)
