"""What a network reports of each step, by the names that ``record`` asks for.

Axes: N environments (networks), G ground users.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lit_rl.checks import nearest
from lit_rl.envs.uav.arrays import Array, Library
from lit_rl.envs.uav.radio import Signals
from lit_rl.envs.uav.rewards import term_names
from lit_rl.envs.uav.scenario import Scenario
from lit_rl.envs.uav.world import World
from lit_rl.types import IS_SUCCESS

REWARD_PREFIX = "reward_"


class Outcome(NamedTuple):
    """Holds all that a measure may look at.

    Attributes:
        world: World after the step.
        signals: Signals of that world.
        used_j: ``(N,)`` energy of all UAVs in this step.
        xp: The library that computes.
    """

    world: World
    signals: Signals
    used_j: Array
    xp: Library


def _jain_index(outcome: Outcome) -> Array:
    """Fairness of the rates (Jain 1984): (sum r)^2 / (G sum r^2), 1 when all are equal; 0 when all are 0."""
    xp, rate = outcome.xp, outcome.signals.rate_mbps
    squares = rate.shape[1] * xp.square(rate).sum(1)
    return xp.square(rate.sum(1)) / xp.where(squares > 0.0, squares, 1.0)


def _mean_hops(outcome: Outcome) -> Array:
    """Mean over the UAVs that have a route; NaN (not reported) where none has."""
    xp, hops = outcome.xp, outcome.signals.routes.hops
    num_linked = (hops > 0).sum(1)
    return xp.where(num_linked > 0, hops.sum(1) / xp.maximum(num_linked, 1), math.nan)


MEASURES: dict[str, Callable[[Outcome], Array]] = {
    "system_throughput_mbps": lambda outcome: outcome.signals.throughput_mbps,
    "connected_users": lambda outcome: outcome.signals.num_connected,
    "coverage_ratio": lambda outcome: outcome.signals.num_connected / outcome.signals.is_connected.shape[1],
    "connectivity_ratio": lambda outcome: (
        (outcome.signals.routes.hops > 0).sum(1) / outcome.signals.load.shape[1]
    ),
    "jain_index": _jain_index,
    "mean_hops": _mean_hops,
    "energy_j": lambda outcome: outcome.used_j,
    "min_user_rate_mbps": lambda outcome: outcome.xp.min(outcome.signals.rate_mbps, 1),
    "mean_user_rate_mbps": lambda outcome: outcome.signals.rate_mbps.mean(1),
    IS_SUCCESS: lambda outcome: outcome.world.reached,
}
"""Each ``(N,)``. ``energy_j`` is that of all UAVs in this step, ``is_success`` whether the goal was reached
so far in the episode."""


def check_record(scenario: Scenario, record: Sequence[str]) -> tuple[str, ...]:
    """The names to record.

    Raises:
        ValueError: A name is not one of :data:`MEASURES` or ``reward_<term>``.
    """
    known = [*MEASURES, *(REWARD_PREFIX + term for term in term_names(scenario))]
    for name in record:
        if name not in known:
            raise ValueError(
                f"record={name!r} is not reported by uav_bs_v0.{nearest(name, known)} "
                f"Known: {', '.join(known)}"
            )
    return tuple(record)


def measure(scenario: Scenario, record: Sequence[str], outcome: Outcome, terms: Array) -> dict[str, Array]:
    """Values of the names in ``record``, each ``(N,)`` float32."""
    xp = outcome.xp
    by_term = {REWARD_PREFIX + name: term for name, term in zip(term_names(scenario), terms, strict=True)}
    return {
        name: xp.astype(by_term[name] if name in by_term else MEASURES[name](outcome), xp.float32)
        for name in record
    }
