"""Radio channels: from a UAV to users among buildings, and in free space.

Al-Hourani, Kandeepan and Lardner 2014, "Optimal LAP Altitude for Maximum Coverage" (IEEE Wireless
Communications Letters). The parameters of the four surroundings give the optimal elevations of that paper.

Axes: N environments (networks), A agents (UAVs), G ground users.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library

LIGHT_SPEED_M_S = 299_792_458.0


class Surrounding(NamedTuple):
    """Parameters of the probability of line of sight, and the losses in excess of free space."""

    a: float
    b: float
    line_of_sight_db: float
    blocked_db: float


SURROUNDINGS = {
    "suburban": Surrounding(4.88, 0.43, 0.1, 21.0),
    "urban": Surrounding(9.61, 0.16, 1.0, 20.0),
    "dense_urban": Surrounding(12.08, 0.11, 1.6, 23.0),
    "high_rise": Surrounding(27.23, 0.08, 2.3, 34.0),
}


def line_of_sight_probability(elevation_deg: np.ndarray, place: Surrounding) -> np.ndarray:
    """Probability that no building is in the way: 1 / (1 + a exp(-b (deg - a)))."""
    return 1.0 / (1.0 + place.a * np.exp(-place.b * (elevation_deg - place.a)))


def free_space_loss_db(distance_m: np.ndarray | float, frequency_hz: float) -> np.ndarray:
    """Friis: 20 log10(4 pi f d / c); distances below 1 m count as 1 m."""
    return 20.0 * np.log10(4.0 * math.pi * frequency_hz / LIGHT_SPEED_M_S * np.maximum(distance_m, 1.0))


def air_to_ground_loss_db(
    horizontal_m: np.ndarray, height_m: np.ndarray, frequency_hz: float, place: Surrounding
) -> np.ndarray:
    """Mean loss from a UAV to a user: free space plus the excess losses, weighted by their probabilities."""
    p = line_of_sight_probability(np.degrees(np.arctan2(height_m, horizontal_m)), place)
    excess_db = p * place.line_of_sight_db + (1.0 - p) * place.blocked_db
    return free_space_loss_db(np.hypot(horizontal_m, height_m), frequency_hz) + excess_db


def noise_dbm(bandwidth_hz: float, noise_figure_db: float) -> float:
    """Thermal noise of -174 dBm/Hz over the bandwidth, plus what the receiver adds."""
    return -174.0 + 10.0 * math.log10(bandwidth_hz) + noise_figure_db


def from_db(decibel: float) -> float:
    """A ratio of powers."""
    return 10.0 ** (decibel / 10.0)


def free_space_snr(
    squared_m2: Array,
    frequency_hz: float,
    power_dbm: float,
    noise_level_dbm: float,
    xp: Library = NUMPY,
) -> Array:
    """Signal-to-noise ratio (not in dB) in free space at a squared distance."""
    at_1_m = from_db(power_dbm - float(free_space_loss_db(1.0, frequency_hz)) - noise_level_dbm)
    return at_1_m / xp.maximum(squared_m2, 1.0)


def air_to_ground_snr(
    flat2_NAG: Array,
    height_NA: Array,
    frequency_hz: float,
    place: Surrounding,
    power_dbm: float,
    noise_level_dbm: float,
    xp: Library = NUMPY,
) -> Array:
    """Signal-to-noise ratio (not in dB) of :func:`air_to_ground_loss_db`, in one pass of cheap operations.

    Everything that does not depend on the geometry is folded into three constants.

    Args:
        flat2_NAG: Squared horizontal distances in m2.
        height_NA: Heights in m, above 0.
        frequency_hz: Carrier.
        place: Surroundings of the users.
        power_dbm: Transmit power.
        noise_level_dbm: Noise in the band.
        xp: The library that computes.

    Returns:
        ``(N, A, G)``.
    """
    height_NA1 = height_NA[..., None]
    odds = xp.arctan2(height_NA1, xp.sqrt(flat2_NAG))
    odds *= -place.b * 180.0 / math.pi
    odds += place.a * place.b + math.log(place.a)
    xp.exp(odds, out=odds)  # odds of being blocked against being in sight
    odds += 1.0
    gain = xp.divide(math.log(10.0) / 10.0 * (place.blocked_db - place.line_of_sight_db), odds, out=odds)
    xp.exp(gain, out=gain)
    squared_m2 = flat2_NAG + xp.square(height_NA1)
    gain *= free_space_snr(squared_m2, frequency_hz, power_dbm - place.blocked_db, noise_level_dbm, xp)
    return gain


def signal_to_interference(snr_NAG: Array, xp: Library = NUMPY) -> Array:
    """SINR (not in dB) of user g at UAV a, all others disturbing: s_a / (1 + sum of the other s)."""
    disturbance = snr_NAG.sum(1, keepdims=True) - snr_NAG
    xp.maximum(disturbance, 0.0, out=disturbance)  # a difference of rounded numbers
    disturbance += 1.0
    return xp.divide(snr_NAG, disturbance, out=disturbance)
