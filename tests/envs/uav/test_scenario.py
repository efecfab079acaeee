"""Sizes at the defaults, and what wrong settings say."""

from __future__ import annotations

import pytest

from lit_rl.envs.uav.scenario import Scenario, make_scenario


def test_sizes_at_the_defaults() -> None:
    scenario = Scenario()
    assert (scenario.num_observed, scenario.num_state) == (85, 249)
    assert scenario.goal_users == 30
    assert scenario.agents == ["uav_0", "uav_1", "uav_2", "uav_3", "uav_4"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_uav": 3}, "no setting 'num_uav'. Did you mean num_uavs?"),
        ({"num_uavs": 0}, "num_uavs = 0, expected 1 <= num_uavs"),
        ({"num_users": 2.5}, "num_users = 2.5, expected a whole number with"),
        ({"area_m": "wide"}, "area_m = 'wide', expected a number with area_m > 0"),
        ({"area_m": float("inf")}, "area_m = inf, expected a finite number with area_m > 0"),
        ({"step_s": 0.0}, "step_s = 0.0, expected step_s > 0"),
        ({"safe_distance_m": -1.0}, "safe_distance_m = -1.0, expected safe_distance_m >= 0"),
        ({"battery_j": 0}, "battery_j = 0, expected battery_j > 0, or null"),
        ({"max_height_m": 50.0}, "max_height_m must be above min_height_m=50.0, got 50.0"),
        ({"goal_coverage": 60}, "goal_coverage = 60, expected 0 < goal_coverage <= 1"),
        ({"surroundings": "urbn"}, "surroundings = 'urbn', expected .* or high_rise. Did you mean urban?"),
        ({"actions": "continuous"}, "actions = 'continuous', expected box or discrete"),
        ({"gateways": []}, "gateways must hold at least one"),
        ({"gateways": [[0, 0]]}, r"each of gateways must be \(x, y, height\) .* got \(0, 0\)"),
        ({"gateways": [[0, 2000, 25]]}, r"each of gateways .* got \(0, 2000, 25\)"),
    ],
)
def test_wrong_settings(settings: dict, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        make_scenario(settings)


def test_levels_in_dbm_may_be_negative() -> None:
    assert Scenario(min_sinr_db=-3.0, power_dbm=-10.0).min_sinr_db == -3.0
