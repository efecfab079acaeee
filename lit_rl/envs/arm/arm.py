"""``PlanarArm-v0`` by Gymnasium's interfaces: one arm, and a batch of them.

Axes: N environments, K finished episodes.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lit_rl.envs.arm.batch import REPORTED, REWARD_PREFIX, PlanarArms
from lit_rl.nested import map_nested
from lit_rl.types import EnvSpec, LeafSpec

_METADATA = {"render_modes": ["rgb_array"], "render_fps": 50}


class PlanarArm(gymnasium.Env):
    """Gives one arm of :class:`PlanarArms` Gymnasium's interface; its numbers stay the same.

    ``info`` of a step holds what ``REPORTED`` names, and the terms of the reward once more in
    ``reward_info``; they sum to the reward exactly.

    Args:
        render_mode: ``rgb_array`` or None; what ``render`` returns.
        **settings: Fields of ``ArmTask`` (``task.py``).

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    metadata: dict[str, Any] = _METADATA  # Gymnasium's

    def __init__(self, render_mode: str | None = None, **settings: Any) -> None:
        self._arms = PlanarArms(1, render_mode=render_mode, record=REPORTED, **settings)
        self.render_mode = render_mode
        self.observation_space, self.action_space = spaces_of(self._arms.spec)
        self._is_seeded = self._is_over = False
        self._next_obs: Any = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; without ``seed`` the next one of the running stream (a random one at first)."""
        super().reset(seed=seed)
        if seed is None and not self._is_seeded:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        if seed is not None:
            obs = self._arms.reset(seed)
            self._is_seeded = True
        elif self._is_over:
            obs = self._next_obs
        else:  # the running episode is left before its end
            obs = self._arms.begin_episodes(np.array([0]))
        self._is_over = False
        return _first(obs), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move for one step.

        Raises:
            ValueError: The episode is over, or ``action`` has another shape.
        """
        if self._is_over:
            raise ValueError("PlanarArm: the episode is over; call reset() before step()")
        step = self._arms.step(np.asarray(action, np.float32)[None])
        self._is_over, self._next_obs = bool(step.truncated[0]), step.obs
        seen = step.obs if step.final_obs is None else step.final_obs
        info: dict[str, Any] = {name: float(value[0]) for name, value in step.metrics.items()}
        info["reward_info"] = {
            name.removeprefix(REWARD_PREFIX): value
            for name, value in info.items()
            if name.startswith(REWARD_PREFIX)
        }
        return _first(seen), float(step.reward[0]), False, self._is_over, info

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """RGB image ``(height, width, 3)`` uint8; after the last step already of the next episode."""
        return None if self.render_mode is None else self._arms.frame()

    def get_state(self) -> dict[str, Any]:
        """Return everything that is needed to continue exactly, as tensors and plain types."""
        import torch

        as_tensor = lambda leaf: torch.from_numpy(leaf.copy())  # noqa: E731
        next_obs = map_nested(as_tensor, self._next_obs) if self._is_over else None
        return {
            "arms": self._arms.get_state(),
            "is_seeded": self._is_seeded,
            "is_over": self._is_over,
            "next_obs": next_obs,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit."""
        self._arms.set_state(state["arms"])
        self._is_seeded, self._is_over = state["is_seeded"], state["is_over"]
        if self._is_over:
            self._next_obs = map_nested(lambda leaf: leaf.numpy().copy(), state["next_obs"])

    def close(self) -> None:
        """Release the arm."""
        self._arms.close()


class PlanarArmVector(VectorEnv):
    """Gives :class:`PlanarArms` the interface of Gymnasium's vector environments, for ``gymnasium.make_vec``.

    ``make_vector_env`` and the data modules of lit_rl take the batch itself, which is named ``native`` here.

    Args:
        num_envs: Number N of arms.
        render_mode: ``rgb_array`` or None.
        **settings: Fields of ``ArmTask`` (``task.py``).

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    native = PlanarArms
    metadata: dict[str, Any] = {**_METADATA, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, render_mode: str | None = None, **settings: Any) -> None:
        self._arms = PlanarArms(num_envs, render_mode=render_mode, record=REPORTED, **settings)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = spaces_of(self._arms.spec)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._is_seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start new episodes; without ``seed`` the next ones of the running streams."""
        super().reset(seed=seed)
        if seed is None and not self._is_seeded:
            seed = int(np.random.SeedSequence().generate_state(1)[0])
        self._is_seeded = True
        if seed is not None:
            return self._arms.reset(seed), {}
        return self._arms.begin_episodes(np.arange(self.num_envs)), {}

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move all arms; where an episode ended, ``final_obs`` and ``final_info`` hold its last step."""
        step = self._arms.step(actions)
        ended, info = step.truncated, dict[str, Any](step.metrics)
        if step.final_obs is not None:
            info["final_obs"] = map_nested(lambda leaf: _spread(leaf, ended), step.final_obs)
            info["final_info"] = dict(step.metrics) | {f"_{name}": ended for name in step.metrics}
            info["_final_obs"] = info["_final_info"] = ended
        return step.obs, step.reward, step.terminated, ended, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """RGB images of all arms."""
        if self.render_mode is None:
            return None
        return tuple(self._arms.frame(env) for env in range(self.num_envs))

    def get_state(self) -> dict[str, Any]:
        """Return everything that is needed to continue exactly, as tensors and plain types."""
        return {"arms": self._arms.get_state(), "is_seeded": self._is_seeded}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit."""
        self._arms.set_state(state["arms"])
        self._is_seeded = state["is_seeded"]

    def close_extras(self, **kwargs: Any) -> None:
        """Release the arms."""
        self._arms.close()


def spaces_of(spec: EnvSpec) -> tuple[spaces.Space, spaces.Box]:
    """Return the spaces of the observation and of the action of one arm."""

    def box(leaf: LeafSpec) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, tuple(leaf.shape), np.float32)

    seen = spec.observation
    observation = (
        box(seen)
        if isinstance(seen, LeafSpec)
        else spaces.Dict({key: box(leaf) for key, leaf in seen.items()})
    )
    return observation, spaces.Box(-1.0, 1.0, tuple(spec.action.shape), np.float32)


def _first(obs: Any) -> Any:
    return map_nested(lambda leaf: leaf[0].copy(), obs)


def _spread(rows: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Put ``rows`` ``(K, ...)`` in their places among zeros ``(N, ...)``."""
    spread = np.zeros((len(where), *rows.shape[1:]), rows.dtype)
    spread[where] = rows
    return spread
