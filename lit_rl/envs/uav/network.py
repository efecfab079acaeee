"""``uav_bs_v0``: N UAV base-station networks in one call, as a ``VectorEnv``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.envs.uav.measures import Outcome, check_record, measure
from lit_rl.envs.uav.observations import Observer
from lit_rl.envs.uav.radio import RadioModel, Signals
from lit_rl.envs.uav.rewards import reward_terms, update_goal
from lit_rl.envs.uav.scenario import make_scenario
from lit_rl.envs.uav.snapshot import take_snapshot
from lit_rl.envs.uav.streams import Streams
from lit_rl.envs.uav.world import World, advance, begin, has_energy_left, make_world
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step

NAME = "uav_bs_v0"


class UAVNetwork:
    """UAVs leave their gateway and serve users on the ground, relaying for each other. See ``VectorEnv``.

    Spaces: observation ``(N, A, 85)`` and state ``(N, 249)`` at the defaults, float32 within [-1, 1] (see
    ``observations.py``); action ``(N, A, 3)`` within [-1, 1], or one of 7. One reward for the team (see
    ``rewards.py``). Episodes are truncated after ``num_steps``; they terminate only with limited batteries,
    when all are empty. Environment i draws from its own stream (see ``streams.py``).

    Args:
        num_envs: N.
        render_mode: ``rgb_array`` or None; :meth:`frame` works with both.
        record: Names to report in ``Step.metrics``, of ``measures.py`` or ``reward_<term>``.
        **settings: Fields of ``Scenario`` (``scenario.py``).

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    def __init__(
        self, num_envs: int, *, render_mode: str | None = None, record: Sequence[str] = (), **settings: Any
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be rgb_array or None, got {render_mode!r}")
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
        self._radio = RadioModel(scenario)
        self._observer = Observer(scenario)
        self._world = make_world(scenario, num_envs)
        self._streams = Streams(0, num_envs)

    def reset(self, seed: int) -> dict[str, np.ndarray]:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        self._streams = Streams(seed, self.num_envs)
        return self.begin_episodes(np.arange(self.num_envs))

    def begin_episodes(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Begin new episodes in the networks ``rows`` ``(K,)``, wherever they are; obs ``(K, ...)``."""
        begin(self.scenario, self._streams, self._world, rows)
        world = self._world.rows(rows)
        return self._observer.observe(world, self._evaluate(world))

    def step(self, action: np.ndarray) -> Step:
        """Fly ``action`` for one step; see ``Step`` for what comes back.

        Raises:
            ValueError: ``action`` has another shape.
        """
        if action.shape != self._action_shape:
            expected = f"action must have shape {self._action_shape} (networks, UAVs, ...)"
            raise ValueError(f"{NAME}: {expected}, got {action.shape}")
        scenario, world = self.scenario, self._world
        used_j = advance(scenario, self._streams, world, action)
        signals = self._evaluate(world)
        terms = reward_terms(scenario, world, signals, update_goal(scenario, world, signals))
        metrics = {}
        if self._record:
            metrics = measure(scenario, self._record, Outcome(world, signals, used_j.sum(1)), terms)
        terminated, truncated = self._ends()
        obs = self._observer.observe(world, signals)
        final_obs = None
        rows = np.flatnonzero(terminated | truncated)
        if len(rows):
            final_obs = {key: leaf[rows] for key, leaf in obs.items()}
            for key, leaf in self.begin_episodes(rows).items():
                obs[key][rows] = leaf
        return Step(obs, terms.sum(0), terminated, truncated, final_obs, None, metrics)

    def _evaluate(self, world: World) -> Signals:
        return self._radio.evaluate(world.position, world.users, has_energy_left(self.scenario, world))

    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        """``terminated`` and ``truncated``, each ``(N,)`` bool."""
        has_energy = has_energy_left(self.scenario, self._world)
        terminated = np.zeros(self.num_envs, bool)
        if has_energy is not None:
            terminated |= ~has_energy.any(1)
        return terminated, (self._world.step_count >= self.scenario.num_steps) & ~terminated

    def look(self, env: int) -> tuple[World, Signals]:
        """The world and the signals of one network, each with N = 1; for drawing and for questions.

        Raises:
            IndexError: There is no such network.
        """
        if not 0 <= env < self.num_envs:
            raise IndexError(f"env must be from 0 to {self.num_envs - 1}, got {env}")
        world = self._world.rows(np.array([env]))
        return world, self._evaluate(world)

    def frame(self, env: int = 0) -> np.ndarray:
        """RGB image ``(height, width, 3)`` uint8 of one network."""
        from lit_rl.envs.uav.render import draw

        return draw(self.scenario, *self.look(env))

    def snapshot(self, env: int) -> dict[str, Any]:
        """One network as plain types, for replays; see ``snapshot.py``."""
        return take_snapshot(NAME, self.scenario, *self.look(env))

    def get_state(self) -> dict[str, Any]:
        """Worlds and random streams, as tensors."""
        import torch

        world = {name: torch.from_numpy(array.copy()) for name, array in self._world._asdict().items()}
        return {"world": world, "streams": self._streams.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`, bit for bit.

        Raises:
            ValueError: The state is of another number of networks, UAVs or users.
        """
        for name, array in self._world._asdict().items():
            saved = state["world"][name].numpy()
            if saved.shape != array.shape:
                raise ValueError(
                    f"{NAME}: the state has {name} of shape {saved.shape}, expected {array.shape}; make as "
                    "many networks, UAVs and users as were saved"
                )
            array[:] = saved
        self._streams.set_state(state["streams"])

    def close(self) -> None:
        """Nothing to release."""
