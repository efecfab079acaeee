"""Ant and Humanoid of Gymnasium as native batches, which observe contact forces.

Numbers, random streams and states are those of Gymnasium's classes ``AntEnv`` and ``HumanoidEnv``
(version 5).

Axes: N environments, E chosen environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.arguments import Copies, Count, Finite, NonNegative, Number, SmallCount, check_arguments
from lit_rl.envs.gymnasium.runners import Between, Runners

CONTACTS = "cfrc_ext"
"""Field of ``MjData`` with forces and torques of contacts on each body."""


class ContactRunners(Runners):
    """Robots that move in all directions, shall run along the x axis and feel what they touch.

    Args:
        healthy_reward: Reward of each step at which the robot is healthy.
        terminate_when_unhealthy: Whether an episode ends when it is not.
        healthy_z_range: Heights of the trunk at which it is healthy.
        contact_cost_weight: Weight of the squared contact forces.
        observed: Fields of ``MjData`` that are observed, and from which entry on.
        **settings: Arguments of ``Runners``.
    """

    num_places = 2
    reported = (
        "x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity", "reward_forward",
        "reward_ctrl", "reward_contact", "reward_survive",
    )  # fmt: skip

    def __init__(
        self,
        *,
        healthy_reward: Finite,
        terminate_when_unhealthy: bool,
        healthy_z_range: Between,
        contact_cost_weight: Finite,
        observed: dict[str, int],
        **settings: Any,
    ) -> None:
        self._healthy_reward, self._may_end = healthy_reward, terminate_when_unhealthy
        self._height, self._contact_weight, self._observed = healthy_z_range, contact_cost_weight, observed
        super().__init__(**settings)

    def _contact_cost(self, forces: np.ndarray) -> np.ndarray:
        """Return what contact forces ``(N, numbers)`` cost, ``(N,)``."""
        return self._contact_weight * np.square(forces).sum(1)

    def _terms(self, given: np.ndarray, velocity: np.ndarray, healthy: np.ndarray) -> dict[str, np.ndarray]:
        cost = self._contact_cost(self._derived[CONTACTS].reshape(self.num_envs, -1))
        more = {"reward_survive": healthy * self._healthy_reward, "reward_contact": -cost}
        return super()._terms(given, velocity, healthy) | more

    def _values(self, velocity: np.ndarray) -> dict[str, np.ndarray]:
        place = self._simulations.qpos[:, :2]
        return {
            "x_position": place[:, 0],
            "y_position": place[:, 1],
            "distance_from_origin": np.linalg.norm(place, axis=1),
            "x_velocity": velocity[:, 0],
            "y_velocity": velocity[:, 1],
        }

    def _ends(self, healthy: np.ndarray) -> np.ndarray:
        return ~healthy if self._may_end else np.zeros(self.num_envs, bool)

    def _derive(self, rows: np.ndarray | slice) -> None:
        super()._derive(rows)
        is_step = isinstance(rows, slice)  # an episode begins without contacts
        self._derived[CONTACTS][rows] = self._simulations.contact_forces() if is_step else 0.0

    def _see(self) -> np.ndarray:
        parts = [self._derived[field][:, first:] for field, first in self._observed.items()]
        return np.concatenate([super()._see(), *(part.reshape(self.num_envs, -1) for part in parts)], 1)


class Ants(ContactRunners):
    """``Ant-v5``; arguments as of Gymnasium's environment, and ``threads``."""

    copy = "gymnasium.envs.mujoco.ant_v5.AntEnv"
    xml, frame_skip, derived = "ant.xml", 5, ("xpos", CONTACTS)

    def __init__(
        self,
        num_envs: Copies,
        *,
        name: str = "Ant-v5",
        max_episode_steps: Count | None = 1000,
        record: Sequence[str] = (),
        threads: SmallCount = 1,
        forward_reward_weight: Finite = 1.0,
        ctrl_cost_weight: Finite = 0.5,
        contact_cost_weight: Finite = 5e-4,
        healthy_reward: Finite = 1.0,
        main_body: Number | str = 1,
        terminate_when_unhealthy: bool = True,
        healthy_z_range: Between = (0.2, 1.0),
        contact_force_range: Between = (-1.0, 1.0),
        reset_noise_scale: NonNegative = 0.1,
        exclude_current_positions_from_observation: bool = True,
        include_cfrc_ext_in_observation: bool = True,
    ) -> None:
        check_arguments(Ants, locals())
        self._main_body, self._range = main_body, contact_force_range
        super().__init__(
            num_envs=num_envs, name=name, max_episode_steps=max_episode_steps, record=record, threads=threads,
            forward_reward_weight=forward_reward_weight, ctrl_cost_weight=ctrl_cost_weight,
            contact_cost_weight=contact_cost_weight, healthy_reward=healthy_reward,
            terminate_when_unhealthy=terminate_when_unhealthy, healthy_z_range=healthy_z_range,
            reset_noise_scale=reset_noise_scale,
            exclude_current_positions_from_observation=exclude_current_positions_from_observation,
            observed={CONTACTS: 1} if include_cfrc_ext_in_observation else {},
        )  # fmt: skip

    def _derive(self, rows: np.ndarray | slice) -> None:
        super()._derive(rows)
        low, high = self._range
        np.clip(self._derived[CONTACTS], low, high, out=self._derived[CONTACTS])

    def _velocities(self, random: np.random.Generator, size: int) -> np.ndarray:
        return self._noise * random.standard_normal(size)

    def _where(self) -> np.ndarray:
        return self._derived["xpos"][:, self._simulations.model.body(self._main_body).id, :2].copy()

    def _is_healthy(self) -> np.ndarray:
        sims, (low, high) = self._simulations, self._height
        is_finite = np.isfinite(sims.qpos).all(1) & np.isfinite(sims.qvel).all(1)
        return is_finite & (low <= sims.qpos[:, 2]) & (sims.qpos[:, 2] <= high)


class Humanoids(ContactRunners):
    """``Humanoid-v5``; arguments as of Gymnasium's environment, and ``threads``."""

    copy = "gymnasium.envs.mujoco.humanoid_v5.HumanoidEnv"
    xml, frame_skip, derived = "humanoid.xml", 5, ("xipos", "cinert", "cvel", "qfrc_actuator", CONTACTS)

    def __init__(
        self,
        num_envs: Copies,
        *,
        name: str = "Humanoid-v5",
        max_episode_steps: Count | None = 1000,
        record: Sequence[str] = (),
        threads: SmallCount = 1,
        forward_reward_weight: Finite = 1.25,
        ctrl_cost_weight: Finite = 0.1,
        contact_cost_weight: Finite = 5e-7,
        contact_cost_range: Between = (-np.inf, 10.0),
        healthy_reward: Finite = 5.0,
        terminate_when_unhealthy: bool = True,
        healthy_z_range: Between = (1.0, 2.0),
        reset_noise_scale: NonNegative = 1e-2,
        exclude_current_positions_from_observation: bool = True,
        include_cinert_in_observation: bool = True,
        include_cvel_in_observation: bool = True,
        include_qfrc_actuator_in_observation: bool = True,
        include_cfrc_ext_in_observation: bool = True,
    ) -> None:
        check_arguments(Humanoids, locals())
        self._cost_range = contact_cost_range
        included = {
            "cinert": include_cinert_in_observation,
            "cvel": include_cvel_in_observation,
            "qfrc_actuator": include_qfrc_actuator_in_observation,
            CONTACTS: include_cfrc_ext_in_observation,
        }
        first = {
            "qfrc_actuator": 6
        }  # the trunk's six directions have no motor; other fields begin with the world
        super().__init__(
            num_envs=num_envs, name=name, max_episode_steps=max_episode_steps, record=record, threads=threads,
            forward_reward_weight=forward_reward_weight, ctrl_cost_weight=ctrl_cost_weight,
            contact_cost_weight=contact_cost_weight, healthy_reward=healthy_reward,
            terminate_when_unhealthy=terminate_when_unhealthy, healthy_z_range=healthy_z_range,
            reset_noise_scale=reset_noise_scale,
            exclude_current_positions_from_observation=exclude_current_positions_from_observation,
            observed={field: first.get(field, 1) for field, is_seen in included.items() if is_seen},
        )  # fmt: skip

    def _where(self) -> np.ndarray:
        mass = self._simulations.model.body_mass
        return np.einsum("b,nbj->nj", mass, self._derived["xipos"])[:, :2] / mass.sum()

    def _terms(self, given: np.ndarray, velocity: np.ndarray, healthy: np.ndarray) -> dict[str, np.ndarray]:
        return super()._terms(self._simulations.ctrl, velocity, healthy)  # the same numbers in float64

    def _contact_cost(self, forces: np.ndarray) -> np.ndarray:
        low, high = self._cost_range
        return super()._contact_cost(forces).clip(low, high)

    def _is_healthy(self) -> np.ndarray:
        (low, high), height = self._height, self._simulations.qpos[:, 2]
        return (low < height) & (height < high)
