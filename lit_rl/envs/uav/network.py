"""``uav_bs_v0``: many UAV base-station networks in one call, as a ``VectorEnv``.

Axes: N environments (networks), E chosen environments, A agents (UAVs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_rl.arguments import Copies, RenderMode, check_arguments
from lit_rl.envs.uav.arrays import Array, Backend, Library, make_arrays
from lit_rl.envs.uav.measures import Outcome, check_record, measure
from lit_rl.envs.uav.observations import Observer
from lit_rl.envs.uav.picture import take_picture
from lit_rl.envs.uav.radio import RadioModel, Signals
from lit_rl.envs.uav.rewards import reward_terms, update_goal
from lit_rl.envs.uav.scenario import make_scenario
from lit_rl.envs.uav.streams import Streams
from lit_rl.envs.uav.world import World, advance, begin, has_energy_left, make_world
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step

if TYPE_CHECKING:
    from torch import Tensor

NAME = "uav_bs_v0"


class UAVNetwork:
    """UAVs leave their gateway and serve users on the ground, relaying for each other.

    Spaces: observation ``(N, A, 85)`` and state ``(N, 249)`` at the defaults, float32 within [-1, 1] (see
    ``observations.py``); action ``(N, A, 3)`` within [-1, 1], or one of 7. One reward for the team (see
    ``rewards.py``). Episodes are truncated after ``num_steps``; they terminate only with limited batteries,
    when all are empty. Environment i draws from its own stream (see ``streams.py``).

    Args:
        num_envs: Number N of networks.
        render_mode: ``rgb_array`` or None; :meth:`frame` works with both.
        record: Names to report in ``Step.metrics``, of ``measures.py`` or ``reward_<term>``.
        device: Device that computes: ``cpu``, ``cuda`` (the current GPU) or ``cuda:<number>``. On a
            GPU numpy arrays come in and go out, one transfer each way per step; :meth:`step_tensors` does
            without. The random numbers are the same; rounding differs, so that now and then a user at a
            threshold is decided otherwise. Tested with torch on the CPU and on a GPU.
        backend: ``auto`` is numpy on the CPU and torch on a GPU; ``torch`` computes with torch on the CPU,
            too (slower than numpy; for tests and for loops on tensors).
        **settings: Fields of ``Scenario`` (``scenario.py``).

    Raises:
        ValueError: An unknown name, a value out of its range, or a device that is not there.
    """

    def __init__(
        self,
        num_envs: Copies,
        *,
        render_mode: RenderMode = None,
        record: Sequence[str] = (),
        device: str = "cpu",
        backend: Backend = "auto",
        **settings: Any,
    ) -> None:
        check_arguments(UAVNetwork, locals())
        self.scenario = scenario = make_scenario(settings)
        self.num_envs, self.render_mode = num_envs, render_mode
        is_box = scenario.actions == "box"
        self.spec = EnvSpec(
            name=NAME,
            observation={"observation": LeafSpec([scenario.num_observed])},
            action=ActionSpec("box", [3], low=[-1.0] * 3, high=[1.0] * 3)
            if is_box
            else ActionSpec("discrete", categories=[7]),
            agents=scenario.agents,
            state=scenario.num_state,
        )
        self._record = check_record(scenario, record)
        self._action_shape = (num_envs, scenario.num_uavs, *self.spec.action.shape)
        self._xp = xp = make_arrays(device, backend)
        self._radio = RadioModel(scenario, xp)
        self._observer = Observer(scenario, xp)
        self._world = make_world(scenario, num_envs, xp)
        self._streams = make_streams(0, num_envs, xp)

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        return self._to_host(self._reset(seed))

    def begin_episodes(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Begin new episodes in the networks ``rows`` ``(E,)``, wherever they are; obs ``(E, ...)``."""
        return self._to_host(self._begin_episodes(self._xp.asarray(rows)))

    def step(self, action: np.ndarray) -> Step:
        """Fly ``action`` for one step; ``Step`` says what comes back.

        Raises:
            ValueError: ``action`` has another shape.
        """
        return self._to_host(self._step(action))

    def reset_tensors(self, seed: int) -> dict[str, Tensor]:
        """:meth:`reset` without the transfer: tensors on the device.

        Raises:
            ValueError: Numpy computes.
        """
        self._check_tensors("reset_tensors")
        return self._reset(seed)

    def step_tensors(self, action: Tensor) -> Step:
        """:meth:`step` without the transfers, for loops that stay on the device.

        It waits for the device once, to learn which episodes ended, and once more for each round in which
        users ask another UAV (``min_sinr_db`` below 0 only).

        Args:
            action: ``(N, A, ...)``, best on the device already.

        Returns:
            A ``Step`` whose arrays are tensors on the device, none of them written to later.

        Raises:
            ValueError: ``action`` has another shape, or numpy computes.
        """
        self._check_tensors("step_tensors")
        return self._step(action)

    def _check_tensors(self, name: str) -> None:
        if self._xp.is_host:
            raise ValueError(
                f"{NAME}: {name} needs tensors, but numpy computes (device='cpu'); give device=cuda, or "
                "backend=torch"
            )

    def _to_host(self, arrays: Any) -> Any:
        if self._xp.is_host:
            return arrays
        from lit_rl.envs.uav.torch_arrays import to_host

        return to_host(arrays)

    def _reset(self, seed: int) -> dict[str, Array]:
        self._streams = make_streams(seed, self.num_envs, self._xp)
        return self._begin_episodes(self._xp.arange(self.num_envs))

    def _begin_episodes(self, rows: Array) -> dict[str, Array]:
        begin(self.scenario, self._streams, self._world, rows, self._xp)
        world = self._world.rows(rows)
        return self._observer.observe(world, self._evaluate(world))

    def _step(self, action: Array) -> Step:
        if action.shape != self._action_shape:
            expected = f"action must have shape {self._action_shape} (networks, UAVs, ...)"
            raise ValueError(f"{NAME}: {expected}, got {tuple(action.shape)}")
        scenario, world, xp = self.scenario, self._world, self._xp
        used_j = advance(scenario, self._streams, world, xp.asarray(action), xp)
        signals = self._evaluate(world)
        terms = reward_terms(scenario, world, signals, update_goal(scenario, world, signals), xp)
        metrics = {}
        if self._record:
            metrics = measure(scenario, self._record, Outcome(world, signals, used_j.sum(1), xp), terms)
        terminated, truncated = self._ends()
        obs = self._observer.observe(world, signals)
        final_obs = None
        rows = xp.flatnonzero(terminated | truncated)
        if len(rows):
            final_obs = {key: leaf[rows] for key, leaf in obs.items()}
            for key, leaf in self._begin_episodes(rows).items():
                obs[key][rows] = leaf
        return Step(obs, terms.sum(0), terminated, truncated, final_obs, None, metrics)

    def _evaluate(self, world: World) -> Signals:
        return self._radio.evaluate(world.position, world.users, has_energy_left(self.scenario, world))

    def _ends(self) -> tuple[Array, Array]:
        """``terminated`` and ``truncated``, each ``(N,)`` bool."""
        has_energy = has_energy_left(self.scenario, self._world)
        terminated = self._xp.zeros(self.num_envs, self._xp.bool_)
        if has_energy is not None:
            terminated |= ~has_energy.any(1)
        return terminated, (self._world.step_count >= self.scenario.num_steps) & ~terminated

    def look(self, env: int) -> tuple[World, Signals]:
        """Return world and signals of one network, each with N = 1; for drawing and for questions.

        They are numpy arrays, wherever they were computed.

        Raises:
            IndexError: There is no such network.
        """
        if not 0 <= env < self.num_envs:
            raise IndexError(f"env must be from 0 to {self.num_envs - 1}, got {env}")
        world = self._world.rows(self._xp.asarray([env]))
        return self._to_host((world, self._evaluate(world)))

    def frame(self, env: int = 0) -> np.ndarray:
        """RGB image ``(height, width, 3)`` uint8 of one network."""
        from lit_rl.envs.uav.render import draw

        return draw(self.scenario, *self.look(env))

    def picture(self, env: int) -> dict[str, Any]:
        """Describe one network as plain types, from which a report draws it (see ``picture.py``)."""
        return take_picture(NAME, self.scenario, *self.look(env))

    def get_state(self) -> dict[str, Any]:
        """Return worlds and random streams as tensors on the CPU, for any device and backend."""
        import torch

        world = {name: torch.tensor(array) for name, array in self._to_host(self._world)._asdict().items()}
        return {"world": world, "streams": self._streams.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit on the same device.

        Raises:
            ValueError: The state is of another number of networks, UAVs or users.
        """
        for name, array in self._world._asdict().items():
            saved = state["world"][name].numpy()
            if saved.shape != array.shape:
                raise ValueError(
                    f"{NAME}: the state has {name} of shape {saved.shape}, expected {tuple(array.shape)}; "
                    "make as many networks, UAVs and users as were saved"
                )
            array[:] = self._xp.asarray(saved)
        self._streams.set_state(state["streams"])

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


def make_streams(seed: int, num: int, xp: Library) -> Any:
    """``Streams`` where arrays are numpy's, else ``TorchStreams``, which draw equal numbers on a device."""
    if xp.is_host:
        return Streams(seed, num)
    from lit_rl.envs.uav.torch_streams import TorchStreams

    return TorchStreams(seed, num, xp)
