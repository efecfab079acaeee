"""Power of flight against the published figures."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.uav.energy import climb_power_w, min_power_w, propulsion_power_w


@pytest.mark.parametrize(("speed", "power"), [(0.0, 168.5), (10.0, 126.0), (20.0, 178.3), (30.0, 356.3)])
def test_power_at_a_speed(speed: float, power: float) -> None:
    assert propulsion_power_w(np.array(speed)) == pytest.approx(power, abs=0.05)
    assert propulsion_power_w(np.float32(speed)) == pytest.approx(power, abs=0.05)


def test_best_speeds() -> None:
    speed = np.arange(0.1, 30.0, 0.01)
    power = propulsion_power_w(speed)
    assert speed[power.argmin()] == pytest.approx(10.2, abs=0.05)
    assert min_power_w() == pytest.approx(126.0, abs=0.05)
    assert speed[(power / speed).argmin()] == pytest.approx(18.3, abs=0.05)
    assert (power / speed).min() == pytest.approx(8.83, abs=0.005)  # J per m


def test_only_climbing_costs_extra() -> None:
    np.testing.assert_allclose(climb_power_w(np.array([-5.0, 0.0, 2.0])), [0.0, 0.0, 40.0])
