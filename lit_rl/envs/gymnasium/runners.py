"""HalfCheetah, Hopper and Walker2d of Gymnasium as native batches: equal numbers in one call.

Rewards, ends and observations are those of Gymnasium's classes ``HalfCheetahEnv``, ``HopperEnv`` and
``Walker2dEnv`` (version 5), and random numbers come from its generators, so that environment i plays what
Gymnasium's environment with the seed ``seed + i`` plays. States, too, are those of Gymnasium's copies, so
that a run goes on with either.

Axes: N environments, E chosen environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from gymnasium.spaces import Box
from gymnasium.utils import seeding

from lit_rl.arguments import Bound, Copies, Count, Finite, NonNegative, SmallCount, check_arguments
from lit_rl.envs.gymnasium.exact_state import get_random, set_random
from lit_rl.envs.gymnasium.spec import action_caster, env_spec, observation_caster
from lit_rl.envs.gymnasium.vector import states_of_copies
from lit_rl.envs.mujoco_batch import Simulations, check_record
from lit_rl.envs.packed import pack, unpack
from lit_rl.types import NestedArray, Step

Between = tuple[Bound, Bound]
"""A lowest and a highest value, which are themselves outside."""
_TIME_LIMIT, _ORDER = (f"gymnasium.wrappers.common.{name}" for name in ("TimeLimit", "OrderEnforcing"))


class Stream:
    """The random numbers of one environment, named as Gymnasium's environments name theirs.

    Args:
        seed: Seed of the generator.
    """

    def __init__(self, seed: int) -> None:
        self._np_random, self._np_random_seed = seeding.np_random(seed)

    @property
    def generator(self) -> np.random.Generator:
        """The generator itself."""
        return self._np_random


class Runners:
    """Robots that shall run ahead. Subclasses name model and rules; those here move in a vertical plane.

    Args:
        num_envs: Number N of environments.
        name: Id of the environment.
        max_episode_steps: Steps until an episode is truncated; None never truncates.
        record: Names of ``reported`` to return in ``Step.metrics``.
        threads: Threads that share the environments; numbers are the same with any.
        forward_reward_weight: Weight of the velocity ahead.
        ctrl_cost_weight: Weight of the squared actions.
        reset_noise_scale: Size of the noise with which an episode begins.
        exclude_current_positions_from_observation: Whether the place along the way is not observed.

    Raises:
        ValueError: ``record`` names what is not reported, or an argument is out of its range.
    """

    copy: ClassVar[str]
    """Class of Gymnasium that plays the same, with its module."""
    xml: ClassVar[str]
    frame_skip: ClassVar[int]
    reported: ClassVar[tuple[str, ...]]
    velocity_limit: ClassVar[float] = np.inf
    """Observed velocities are clipped to plus and minus this."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Fields of ``MjData``, beside positions and velocities, that observations or rewards depend on."""
    num_places: ClassVar[int] = 1
    """Number of positions that say where a robot is, which ``exclude_current_positions`` leaves out."""

    def __init__(
        self,
        num_envs: Copies,
        name: str,
        max_episode_steps: Count | None,
        record: Sequence[str],
        threads: SmallCount,
        forward_reward_weight: Finite,
        ctrl_cost_weight: Finite,
        reset_noise_scale: NonNegative,
        exclude_current_positions_from_observation: bool,
    ) -> None:
        self.num_envs, self.name, self._record = num_envs, name, check_record(record, self.reported, name)
        self._forward_weight, self._ctrl_weight = forward_reward_weight, ctrl_cost_weight
        self._noise, self._max_steps = reset_noise_scale, max_episode_steps
        self._skipped = self.num_places * bool(exclude_current_positions_from_observation)
        model = mujoco.MjModel.from_xml_path(  # pyright: ignore[reportAttributeAccessIssue]
            expand_model_path(self.xml)
        )
        is_whole = bool(self.derived)
        self._simulations = sims = Simulations(model, num_envs, min(threads, num_envs), name, is_whole)
        self._bound = {field: sims.bind(field) for field in self.derived}
        if is_whole:
            sims.forward()
        self._derived = {field: values.copy() for field, values in self._bound.items()}
        self._step_s = model.opt.timestep * self.frame_skip
        self._init_qpos, self._init_qvel = sims.qpos[0].copy(), sims.qvel[0].copy()
        low, high = model.actuator_ctrlrange.copy().astype(np.float32).T
        seen = Box(-np.inf, np.inf, (self._see().shape[1],), np.float64)
        acts = Box(low, high, dtype=np.float32)
        self.spec = env_spec(name, seen, acts)
        self._to_obs, self._to_action = observation_caster(seen), action_caster(acts)
        self._streams = [Stream(env) for env in range(num_envs)]
        self._age = np.zeros(num_envs, np.int64)
        self._last, self._at = self._see(), self._where()

    def _velocities(self, random: np.random.Generator, size: int) -> np.ndarray:
        """Draw the noise of the velocities with which an episode begins."""
        return random.uniform(low=-self._noise, high=self._noise, size=size)

    def _is_healthy(self) -> np.ndarray:
        """Tell which robots are healthy, bool ``(N,)``."""
        return np.ones(self.num_envs, bool)

    def _where(self) -> np.ndarray:
        """Return where the robots are, as far as their velocity is judged by it, ``(N, 1 or 2)``."""
        return self._simulations.qpos[:, :1].copy()

    def _terms(self, given: np.ndarray, velocity: np.ndarray, healthy: np.ndarray) -> dict[str, np.ndarray]:
        """Return the terms of the reward, each ``(N,)``.

        Args:
            given: Actions, ``(N, ...)``.
            velocity: Velocities from the last place to the present one, ``(N, 1 or 2)``.
            healthy: Which robots are healthy, bool ``(N,)``.
        """
        cost = self._ctrl_weight * np.square(given).sum(1)
        return {"reward_forward": self._forward_weight * velocity[:, 0], "reward_ctrl": -cost}

    def _values(self, velocity: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is reported beside the terms of the reward, each ``(N,)``."""
        qpos = self._simulations.qpos
        return {
            "x_position": qpos[:, 0],
            "x_velocity": velocity[:, 0],
            "z_distance_from_origin": qpos[:, 1] - self._init_qpos[1],
        }

    def _ends(self, healthy: np.ndarray) -> np.ndarray:
        """Tell whose episode terminates, bool ``(N,)``."""
        return ~healthy

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        self._streams = [Stream(int(seed) + env) for env in range(self.num_envs)]
        self._begin(np.arange(self.num_envs))
        return self._to_obs(self._see())

    def _begin(self, rows: np.ndarray) -> None:
        """Begin episodes in ``rows`` ``(E,)``."""
        sims = self._simulations
        sims.clear(rows)
        for row in rows:
            random = self._streams[row].generator
            shift = random.uniform(low=-self._noise, high=self._noise, size=len(self._init_qpos))
            sims.qpos[row] = self._init_qpos + shift
            sims.qvel[row] = self._init_qvel + self._velocities(random, len(self._init_qvel))
        if self._derived:
            sims.forward(rows)
            self._derive(rows)
        self._age[rows], self._at[rows] = 0, self._where()[rows]

    def _derive(self, rows: np.ndarray | slice) -> None:
        """Keep the derived fields of ``rows`` as a step, or the beginning of an episode, left them."""
        for field, values in self._bound.items():
            self._derived[field][rows] = values[rows]

    def _see(self) -> np.ndarray:
        """Observe all environments, ``(N, ...)`` float64."""
        sims, limit = self._simulations, self.velocity_limit
        return np.concatenate([sims.qpos[:, self._skipped :], sims.qvel.clip(-limit, limit)], 1)

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, ...)``; ``Step`` says what comes back.

        Raises:
            ValueError: ``action`` has another shape than the action space.
            FloatingPointError: The simulations of all environments diverged at once.
        """
        if action.shape != self._simulations.ctrl.shape:
            expected = f"action must have shape {self._simulations.ctrl.shape} (num_envs first)"
            raise ValueError(f"{self.name}: {expected}, got {action.shape}")
        given, sims, before = self._to_action(action), self._simulations, self._at
        sims.ctrl[:] = given
        diverged = sims.advance(self.frame_skip)
        self._age += 1
        self._derive(slice(None))
        self._at = self._where()
        velocity, healthy, seen = (self._at - before) / self._step_s, self._is_healthy(), self._see()
        terms = self._terms(given, velocity, healthy)
        # added in Gymnasium's order, so that sums are equal to the last bit
        pays = terms["reward_forward"] + terms.get("reward_survive", 0.0)
        costs = -terms["reward_ctrl"] - terms.get("reward_contact", 0.0)
        reward = (pays - costs).astype(np.float32)
        terminated = self._ends(healthy)
        if len(diverged):
            terminated[diverged], reward[diverged], seen[diverged] = True, 0.0, self._last[diverged]
        truncated = self._age >= (np.inf if self._max_steps is None else self._max_steps)
        values = (terms | self._values(velocity)) if self._record else {}
        metrics = {key: values[key].astype(np.float32) for key in self._record}
        rows, final_obs = np.flatnonzero(terminated | truncated), None
        if len(rows):
            final_obs = self._to_obs(seen[rows])
            self._begin(rows)
            seen = self._see()
        self._last = seen
        return Step(self._to_obs(seen), reward, terminated, truncated, final_obs, None, metrics)

    def get_state(self) -> dict[str, Any]:
        """Return what copies of Gymnasium's environment would return, as tensors and plain types."""
        integration = self._simulations.get_state()["state"].numpy()
        return {"envs": [self._state_of(row, integration[row]) for row in range(self.num_envs)]}

    def _state_of(self, row: int, integration: np.ndarray) -> dict[str, Any]:
        """Return the state of one copy with the wrappers that Gymnasium puts around it."""
        age = {"class": _TIME_LIMIT, "attributes": {"_elapsed_steps": int(self._age[row])}}
        order = {"class": _ORDER, "attributes": {"_has_reset": True}}
        derived = {field: values[row] for field, values in self._derived.items()}
        copy = {
            "class": self.copy,
            "mujoco": {"integration": pack(integration), "derived": pack(derived), "attributes": {}},
            "random": get_random(self._streams[row]),
        }
        layers = [order, copy] if self._max_steps is None else [age, order, copy]
        return {"layers": layers, "autoreset": False, "valid": True}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, or copies of Gymnasium's, bit for bit.

        Raises:
            ValueError: The state is of another number of environments, or of others.
        """
        import torch

        if "runners" in state:  # which the first version of this batch returned
            own = unpack(state["runners"])
            streams = [{"generator": _counted(stream), "seed": None} for stream in own["streams"]]
            layers, integration, ages = [], state["simulations"]["state"], own["age"].tolist()
        else:
            layers = [env["layers"] for env in states_of_copies(state)]
            self._check_layers(layers)
            vectors = [unpack(own[-1]["mujoco"]["integration"]) for own in layers]
            streams, integration = [own[-1]["random"] for own in layers], torch.from_numpy(np.stack(vectors))
            ages = [unpack(own[0].get("attributes", {}).get("_elapsed_steps", 0)) for own in layers]
        self._simulations.set_state({"state": integration})
        for field, values in self._derived.items():
            values[:] = [unpack(own[-1]["mujoco"]["derived"][field]) for own in layers]
        for stream, saved in zip(self._streams, streams, strict=True):
            set_random(stream, saved)
        self._age[:] = ages
        self._last, self._at = self._see(), self._where()

    def _check_layers(self, layers: list[list[dict[str, Any]]]) -> None:
        """Check that a state is of as many copies of this environment, with the wrappers it has."""
        if len(layers) != self.num_envs:
            raise ValueError(f"the state is of num_envs={len(layers)}, there are num_envs={self.num_envs}")
        expected = [_ORDER, self.copy] if self._max_steps is None else [_TIME_LIMIT, _ORDER, self.copy]
        for own in layers:
            found = [layer["class"] for layer in own]
            if found != expected:
                raise ValueError(
                    f"{self.name}: the state is of {', '.join(found)}, expected {', '.join(expected)}; "
                    "continue with the environment and wrappers that it was saved with"
                )

    def close(self) -> None:
        """Release the simulations; further calls do nothing."""
        self._simulations.close()


def _counted(stream: dict[str, Any]) -> dict[str, Any]:
    """Turn the numbers of a stream, which the first version wrote as text, into numbers."""
    return {
        "bit_generator": stream["bit_generator"],
        "state": {key: int(number) for key, number in stream["state"].items()},
        "has_uint32": int(stream["has_uint32"]),
        "uinteger": int(stream["uinteger"]),
    }


class HalfCheetahs(Runners):
    """``HalfCheetah-v5``; arguments as of Gymnasium's environment, and ``threads``."""

    copy = "gymnasium.envs.mujoco.half_cheetah_v5.HalfCheetahEnv"
    xml, frame_skip = "half_cheetah.xml", 5
    reported = ("x_position", "x_velocity", "reward_forward", "reward_ctrl")

    def __init__(
        self,
        num_envs: Copies,
        *,
        name: str = "HalfCheetah-v5",
        max_episode_steps: Count | None = 1000,
        record: Sequence[str] = (),
        threads: SmallCount = 1,
        forward_reward_weight: Finite = 1.0,
        ctrl_cost_weight: Finite = 0.1,
        reset_noise_scale: NonNegative = 0.1,
        exclude_current_positions_from_observation: bool = True,
    ) -> None:
        check_arguments(HalfCheetahs, locals())
        super().__init__(
            num_envs, name, max_episode_steps, record, threads, forward_reward_weight, ctrl_cost_weight,
            reset_noise_scale, exclude_current_positions_from_observation,
        )  # fmt: skip

    def _velocities(self, random: np.random.Generator, size: int) -> np.ndarray:
        return self._noise * random.standard_normal(size)


class Hoppers(Runners):
    """``Hopper-v5``; arguments as of Gymnasium's environment, and ``threads``."""

    copy = "gymnasium.envs.mujoco.hopper_v5.HopperEnv"
    xml, frame_skip, velocity_limit = "hopper.xml", 4, 10.0
    reported = (*HalfCheetahs.reported, "z_distance_from_origin", "reward_survive")

    def __init__(
        self,
        num_envs: Copies,
        *,
        name: str = "Hopper-v5",
        max_episode_steps: Count | None = 1000,
        record: Sequence[str] = (),
        threads: SmallCount = 1,
        forward_reward_weight: Finite = 1.0,
        ctrl_cost_weight: Finite = 1e-3,
        healthy_reward: Finite = 1.0,
        terminate_when_unhealthy: bool = True,
        healthy_state_range: Between = (-100.0, 100.0),
        healthy_z_range: Between = (0.7, float("inf")),
        healthy_angle_range: Between = (-0.2, 0.2),
        reset_noise_scale: NonNegative = 5e-3,
        exclude_current_positions_from_observation: bool = True,
    ) -> None:
        check_arguments(Hoppers, locals())
        self._healthy_reward, self._may_end = healthy_reward, terminate_when_unhealthy
        self._state, self._height, self._angle = healthy_state_range, healthy_z_range, healthy_angle_range
        super().__init__(
            num_envs, name, max_episode_steps, record, threads, forward_reward_weight, ctrl_cost_weight,
            reset_noise_scale, exclude_current_positions_from_observation,
        )  # fmt: skip

    def _is_healthy(self) -> np.ndarray:
        sims = self._simulations
        height, angle = sims.qpos[:, 1], sims.qpos[:, 2]
        rest = _inside(sims.qpos[:, 2:], self._state).all(1) & _inside(sims.qvel, self._state).all(1)
        return rest & _inside(height, self._height) & _inside(angle, self._angle)

    def _terms(self, given: np.ndarray, velocity: np.ndarray, healthy: np.ndarray) -> dict[str, np.ndarray]:
        return super()._terms(given, velocity, healthy) | {"reward_survive": healthy * self._healthy_reward}

    def _ends(self, healthy: np.ndarray) -> np.ndarray:
        return ~healthy if self._may_end else np.zeros(self.num_envs, bool)


class Walkers(Hoppers):
    """``Walker2d-v5``; arguments as of Gymnasium's environment, and ``threads``."""

    copy = "gymnasium.envs.mujoco.walker2d_v5.Walker2dEnv"
    xml, frame_skip = "walker2d_v5.xml", 4

    def __init__(
        self,
        num_envs: Copies,
        *,
        name: str = "Walker2d-v5",
        max_episode_steps: Count | None = 1000,
        record: Sequence[str] = (),
        threads: SmallCount = 1,
        forward_reward_weight: Finite = 1.0,
        ctrl_cost_weight: Finite = 1e-3,
        healthy_reward: Finite = 1.0,
        terminate_when_unhealthy: bool = True,
        healthy_z_range: Between = (0.8, 2.0),
        healthy_angle_range: Between = (-1.0, 1.0),
        reset_noise_scale: NonNegative = 5e-3,
        exclude_current_positions_from_observation: bool = True,
    ) -> None:
        check_arguments(Walkers, locals())
        super().__init__(
            num_envs, name=name, max_episode_steps=max_episode_steps, record=record, threads=threads,
            forward_reward_weight=forward_reward_weight, ctrl_cost_weight=ctrl_cost_weight,
            healthy_reward=healthy_reward, terminate_when_unhealthy=terminate_when_unhealthy,
            healthy_state_range=(-np.inf, np.inf), healthy_z_range=healthy_z_range,
            healthy_angle_range=healthy_angle_range, reset_noise_scale=reset_noise_scale,
            exclude_current_positions_from_observation=exclude_current_positions_from_observation,
        )  # fmt: skip


def _inside(values: np.ndarray, low_high: Between) -> np.ndarray:
    return (low_high[0] < values) & (values < low_high[1])
