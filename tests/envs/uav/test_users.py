"""Where users are put, and how they walk."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.uav.scenario import Placement, Scenario
from lit_rl.envs.uav.streams import Streams
from lit_rl.envs.uav.users import anywhere, place_users, walk


@pytest.mark.parametrize("placement", ["clusters", "hotspot", "uniform"])
def test_users_are_in_the_area(placement: Placement) -> None:
    scenario = Scenario(placement=placement)
    users = place_users(scenario, Streams(0, 100), np.arange(100))
    assert users.shape == (100, 2, 50)
    assert users.dtype == np.float32
    assert users.min() >= 0
    assert users.max() <= 1000


def test_spread_tells_the_placements_apart() -> None:
    """Distance to the nearest other user: small in clusters, large where users are anywhere."""

    def nearest_m(scenario: Scenario) -> np.ndarray:
        users = place_users(scenario, Streams(0, 50), np.arange(50))
        gap = np.hypot(*np.moveaxis(users[..., None] - users[:, :, None], 1, 0)) + 1e9 * np.eye(50)
        return gap.min(-1)

    clusters, uniform = nearest_m(Scenario()).mean(), nearest_m(Scenario(placement="uniform")).mean()
    hotspot = nearest_m(Scenario(placement="hotspot"))
    assert clusters < 0.5 * uniform
    assert hotspot[:, :25].mean() < 0.5 * hotspot[:, 25:].mean()


def test_cluster_spread() -> None:
    """Without spread there are 3, 4 or 5 places, all of them in the middle of the area."""
    users = place_users(Scenario(cluster_spread_m=0.0), Streams(0, 200), np.arange(200))
    sizes = [len(np.unique(network, axis=1).T) for network in users]
    assert set(sizes) == {3, 4, 5}
    assert users.min() >= 150
    assert users.max() <= 950


def test_walking() -> None:
    """Everybody moves 1.5 m per step towards a waypoint, stops on it, and then has another one."""
    scenario = Scenario(mobility="random_waypoint", num_users=3)
    streams, rows = Streams(0, 1), np.arange(1)
    users = anywhere(scenario, streams, rows).astype(np.float32)
    target = anywhere(scenario, streams, rows).astype(np.float32)
    target[0, :, 0] = users[0, :, 0] + [0.6, 0.8]  # 1 m away
    before, target_before = users.copy(), target.copy()
    walk(scenario, streams, users, target)
    moved = np.hypot(*(users - before)[0])
    np.testing.assert_allclose(moved, [1.0, 1.5, 1.5], rtol=1e-3)
    np.testing.assert_allclose(users[0, :, 0], target_before[0, :, 0])
    assert (target[0, :, 0] != target_before[0, :, 0]).all()
    np.testing.assert_array_equal(target[0, :, 1:], target_before[0, :, 1:])
