"""Policies without learning, to compare with: random flight, staying, and flying to k-means centres.

Axes: N environments (networks), E chosen environments, A agents (UAVs), G ground users.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.envs.uav.observations import positions_in, users_in
from lit_rl.envs.uav.scenario import Scenario, make_scenario
from lit_rl.envs.uav.world import MOVES
from lit_rl.types import Decision, Nested


class RandomFlight:
    """Flies uniformly random actions.

    Args:
        seed: Seed of the actions.
        **settings: Fields of ``Scenario``, as the environment has them.
    """

    def __init__(self, seed: int = 0, **settings: Any) -> None:
        self._scenario = make_scenario(settings)
        self._rng = np.random.default_rng(seed)

    def initial_carry(self, num_envs: int) -> Nested:
        """Return the empty carry: nothing is remembered."""
        return {}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Draw; ``greedy`` changes nothing."""
        shape = (len(reset), self._scenario.num_uavs)
        if self._scenario.actions == "discrete":
            return Decision(torch.from_numpy(self._rng.integers(0, len(MOVES), shape)), carry, {})
        action = self._rng.uniform(-1.0, 1.0, (*shape, 3)).astype(np.float32)
        return Decision(torch.from_numpy(action), carry, {})


class FlyToTargets:
    """Flies every UAV to a place that is chosen at the start of the episode, and hovers there.

    Args:
        **settings: Fields of ``Scenario``, as the environment has them.
    """

    def __init__(self, **settings: Any) -> None:
        self._scenario = make_scenario(settings)

    def plan(self, position_EA3: np.ndarray, users_EG2: np.ndarray) -> np.ndarray:
        """Return where to fly, ``(E, A, 3)`` in m: here, where they are."""
        return position_EA3

    def initial_carry(self, num_envs: int) -> Nested:
        """``target`` ``(N, A, 3)`` in m."""
        return {"target": torch.zeros(num_envs, self._scenario.num_uavs, 3)}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Fly towards the targets at full speed; ``greedy`` changes nothing."""
        scenario = self._scenario
        state = obs["state"].cpu().numpy()
        position, rows = positions_in(scenario, state), reset.cpu().numpy()
        target = carry["target"].cpu().numpy().copy()
        if rows.any():
            target[rows] = self.plan(position[rows], users_in(scenario, state[rows]))
        action = torch.from_numpy(_towards(scenario, target - position))
        return Decision(action.to(reset.device), {"target": torch.from_numpy(target).to(reset.device)}, {})


class Stay(FlyToTargets):
    """Lets every UAV hover where it started."""


class KMeans(FlyToTargets):
    """UAVs hover over k-means centres (Lloyd 1982) of the users; some may stay behind as relays.

    Relays stand on the line from the first gateway to the mean of the centres, equally spaced. Places are
    handed out by their distance from that gateway.

    Args:
        num_relays: UAVs that are relays, below the number of UAVs.
        height_m: Height of all UAVs.
        seed: Seed of the first centres, which are random users.
        **settings: Fields of ``Scenario``, as the environment has them.

    Raises:
        ValueError: ``num_relays`` leaves no UAV over.
    """

    def __init__(self, num_relays: int = 0, height_m: float = 100.0, seed: int = 0, **settings: Any) -> None:
        super().__init__(**settings)
        self._num_centres = self._scenario.num_uavs - num_relays
        if num_relays < 0 or self._num_centres < 1:
            raise ValueError(
                f"num_relays must be from 0 to {self._scenario.num_uavs - 1}, below num_uavs; "
                f"got {num_relays}"
            )
        if self._num_centres > self._scenario.num_users:
            raise ValueError(
                f"k-means needs a user per centre: {self._num_centres} centres, "
                f"{self._scenario.num_users} users"
            )
        self._num_relays, self._height_m = num_relays, height_m
        self._rng = np.random.default_rng(seed)

    def plan(self, position_EA3: np.ndarray, users_EG2: np.ndarray) -> np.ndarray:
        """Centres and relays in the order of their distance from the gateway: ``(E, A, 3)`` in m."""
        gateway = np.array(self._scenario.gateways[0][:2])
        centres = k_means(users_EG2, self._num_centres, self._rng)
        part = np.arange(1, self._num_relays + 1)[:, None] / (self._num_relays + 1)
        relays = gateway + part * (centres.mean(1, keepdims=True) - gateway)  # (E, relays, 2)
        places = np.concatenate([relays, centres], 1)
        order = np.hypot(*np.moveaxis(places - gateway, -1, 0)).argsort(1)
        places = np.take_along_axis(places, order[..., None], 1)
        return np.concatenate([places, np.full_like(places[..., :1], self._height_m)], -1)


def k_means(
    points_EG2: np.ndarray, num_centres: int, rng: np.random.Generator, num_rounds: int = 15
) -> np.ndarray:
    """Centres ``(E, centres, 2)`` of the users; a centre without users stays where it is."""
    first = rng.random(points_EG2.shape[:2]).argsort(1)[:, :num_centres]
    centres = np.take_along_axis(points_EG2, first[..., None], 1)
    for _ in range(num_rounds):
        gap = points_EG2[:, :, None] - centres[:, None]
        nearest = np.square(gap).sum(-1).argmin(-1)  # (E, G)
        for index in range(num_centres):
            is_mine = (nearest == index)[..., None]
            count = is_mine.sum(1)
            mean = (points_EG2 * is_mine).sum(1) / np.maximum(count, 1)
            centres[:, index] = np.where(count > 0, mean, centres[:, index])
    return centres


def _towards(scenario: Scenario, way_NA3: np.ndarray) -> np.ndarray:
    """The action that goes along ``way`` and does not overshoot; discrete: the longest of its three legs."""
    speed = [scenario.max_speed_m_s, scenario.max_speed_m_s, scenario.max_climb_m_s]
    steps = way_NA3 / (np.array(speed) * scenario.step_s)
    if scenario.actions == "box":
        return np.clip(steps, -1.0, 1.0).astype(np.float32)
    axis = np.abs(steps).argmax(-1)
    leg = np.take_along_axis(steps, axis[..., None], -1)[..., 0]
    return np.where(np.abs(leg) < 0.5, 0, 2 * axis + 1 + (leg < 0))
