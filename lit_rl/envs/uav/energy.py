"""Power a rotary-wing UAV needs to fly.

Zeng, Xu and Zhang 2019, "Energy Minimization for Wireless Communication with Rotary-Wing UAV"
(arXiv 1804.02238), its model and its parameters, plus the work of climbing.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from lit_rl.envs.uav.arrays import NUMPY, Array, Library

BLADE_W = 79.856
"""P0, profile power of the blades in hover."""
INDUCED_W = 88.628
"""Pi, induced power in hover."""
TIP_SPEED_M_S = 120.0
"""U, speed of the rotor tips."""
INDUCED_SPEED_M_S = 4.03
"""v0, mean speed of the air through the rotor in hover."""
DRAG_RATIO, AIR_KG_M3, SOLIDITY, DISC_M2 = 0.6, 1.225, 0.05, 0.503
"""d0, rho, s and A: drag of the fuselage, air, rotor solidity and rotor disc."""
WEIGHT_N = 20.0
"""W, of the UAV."""


def propulsion_power_w(speed_m_s: Array, xp: Library = NUMPY) -> Array:
    """Power of level flight in W.

    ``P0 (1 + 3 V^2/U^2) + Pi sqrt(sqrt(1 + x^2) - x) + d0 rho s A V^3 / 2`` with ``x = V^2 / (2 v0^2)``.
    The difference of roots is written as ``1 / (sqrt(1 + x^2) + x)``, exact in float32 at high speeds too.
    """
    squared = xp.square(speed_m_s)
    x = squared / (2.0 * INDUCED_SPEED_M_S**2)
    blade = BLADE_W * (1.0 + 3.0 / TIP_SPEED_M_S**2 * squared)
    induced = INDUCED_W / xp.sqrt(xp.sqrt(1.0 + xp.square(x)) + x)
    drag = 0.5 * DRAG_RATIO * AIR_KG_M3 * SOLIDITY * DISC_M2 * squared * speed_m_s
    return blade + induced + drag


def climb_power_w(climb_m_s: Array, xp: Library = NUMPY) -> Array:
    """Power of lifting the weight, W max(v_z, 0); sinking gives nothing back."""
    return WEIGHT_N * xp.maximum(climb_m_s, 0.0)


@lru_cache(maxsize=1)
def min_power_w() -> float:
    """Least power of level flight, at about 10 m/s: flying slowly costs less than hovering."""
    return float(propulsion_power_w(np.arange(0.0, 30.0, 0.01)).min())
