"""Radio channels against published optima, hand-computed levels and the formulas in dB."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.envs.uav.channel import (
    SURROUNDINGS,
    air_to_ground_loss_db,
    air_to_ground_snr,
    free_space_loss_db,
    free_space_snr,
    line_of_sight_probability,
    noise_dbm,
    signal_to_interference,
)


@pytest.mark.parametrize(
    ("place", "optimum_deg"),
    [("suburban", 20.34), ("urban", 42.44), ("dense_urban", 54.62), ("high_rise", 75.52)],
)
def test_optimal_elevation_is_the_published_one(place: str, optimum_deg: float) -> None:
    """The elevation at which a given loss reaches farthest along the ground."""
    degrees = np.arange(1.0, 89.9, 0.001)
    angle = np.radians(degrees)
    loss = air_to_ground_loss_db(1e3 * np.cos(angle), 1e3 * np.sin(angle), 2e9, SURROUNDINGS[place])
    reach = np.cos(angle) * 10 ** (-(loss - loss.min()) / 20)
    assert degrees[reach.argmax()] == pytest.approx(optimum_deg, abs=0.01)


def test_line_of_sight_by_hand() -> None:
    """At an elevation of a degrees the probability is 1 / (1 + a); overhead it is almost certain."""
    urban = SURROUNDINGS["urban"]
    assert line_of_sight_probability(np.array(9.61), urban) == pytest.approx(1 / 10.61)
    assert line_of_sight_probability(np.array(90.0), urban) == pytest.approx(1.0, abs=1e-4)


def test_noise_and_free_space_by_hand() -> None:
    assert noise_dbm(10e6, 7.0) == pytest.approx(-97.0)
    assert noise_dbm(20e6, 7.0) == pytest.approx(-93.99, abs=0.01)
    assert free_space_loss_db(1000.0, 2e9) == pytest.approx(98.47, abs=0.01)
    assert free_space_loss_db(0.0, 2e9) == free_space_loss_db(1.0, 2e9)


@pytest.mark.parametrize(("power_dbm", "range_m"), [(20.0, 460.0), (23.0, 650.0)])
def test_link_ranges_at_13_db(power_dbm: float, range_m: float) -> None:
    distance = np.arange(1.0, 2000.0)
    snr = free_space_snr(distance**2, 5.8e9, power_dbm, noise_dbm(20e6, 7.0))
    assert distance[snr >= 10**1.3].max() == pytest.approx(range_m, rel=0.01)


@pytest.mark.parametrize("place", [*SURROUNDINGS])
def test_fast_snr_is_the_loss_in_db(place: str) -> None:
    rng = np.random.default_rng(0)
    horizontal = rng.uniform(0, 1400, (3, 5, 40))
    horizontal[0, 0, 0] = 0.0
    height = rng.uniform(50, 150, (3, 5))
    snr = air_to_ground_snr(
        np.square(horizontal).astype(np.float32),
        height.astype(np.float32),
        2e9,
        SURROUNDINGS[place],
        23.0,
        -97.0,
    )
    loss = air_to_ground_loss_db(horizontal, height[..., None], 2e9, SURROUNDINGS[place])
    assert snr.dtype == np.float32
    np.testing.assert_allclose(10 * np.log10(snr), 23.0 - loss + 97.0, atol=1e-3)


def test_interference_by_hand() -> None:
    snr = np.array([[[3.0, 0.0], [1.0, 4.0]]], np.float32)  # two UAVs, two users
    np.testing.assert_allclose(signal_to_interference(snr), [[[1.5, 0.0], [0.25, 4.0]]])
