"""Native batches by Gymnasium's interfaces: one environment, and a batch of them.

Axes: N environments, K finished episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from lit_rl.arguments import Copies, RenderMode, check_arguments
from lit_rl.nested import map_nested
from lit_rl.types import EnvSpec, LeafSpec

_METADATA = {"render_modes": ["rgb_array"], "render_fps": 50}
REWARD_PREFIX = "reward_"
"""What the names of the reward's terms begin with, where a batch reports them."""


class NativeEnv(gymnasium.Env):
    """Gives one environment of a native batch Gymnasium's interface; its numbers stay the same.

    ``info`` of a step holds what the batch can report, and the terms of the reward once more in
    ``reward_info``; they sum to the reward exactly.

    Attributes:
        native: Makes the batch.
        reported: Names of what it can report.

    Args:
        render_mode: ``rgb_array`` or None; what ``render`` returns.
        **settings: Settings of the batch.

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    native: ClassVar[Callable[..., Any]]
    reported: ClassVar[Sequence[str]]
    metadata: dict[str, Any] = _METADATA  # Gymnasium's

    def __init__(self, render_mode: RenderMode = None, **settings: Any) -> None:
        check_arguments(NativeEnv, locals())
        self._batch = type(self).native(1, render_mode=render_mode, record=self.reported, **settings)
        self.render_mode = render_mode
        self.observation_space, self.action_space = spaces_of(self._batch.spec)
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
            obs = self._batch.reset(seed)
            self._is_seeded = True
        elif self._is_over:
            obs = self._next_obs
        else:  # the running episode is left before its end
            obs = self._batch.begin_episodes(np.array([0]))
        self._is_over = False
        return _first(obs), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Move for one step.

        Raises:
            ValueError: The episode is over, or ``action`` has another shape.
        """
        if self._is_over:
            raise ValueError(f"{type(self).__name__}: the episode is over; call reset() before step()")
        step = self._batch.step(np.asarray(action, np.float32)[None])
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._is_over, self._next_obs = terminated or truncated, step.obs
        seen = step.obs if step.final_obs is None else step.final_obs
        info: dict[str, Any] = {name: float(value[0]) for name, value in step.metrics.items()}
        info["reward_info"] = {
            name.removeprefix(REWARD_PREFIX): value
            for name, value in info.items()
            if name.startswith(REWARD_PREFIX)
        }
        return _first(seen), float(step.reward[0]), terminated, truncated, info

    def render(self) -> np.ndarray | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """RGB image ``(height, width, 3)`` uint8; after the last step already of the next episode."""
        return None if self.render_mode is None else self._batch.frame()

    def get_state(self) -> dict[str, Any]:
        """Return everything that is needed to continue exactly, as tensors and plain types."""
        import torch

        as_tensor = lambda leaf: torch.from_numpy(leaf.copy())  # noqa: E731
        next_obs = map_nested(as_tensor, self._next_obs) if self._is_over else None
        return {
            "batch": self._batch.get_state(),
            "is_seeded": self._is_seeded,
            "is_over": self._is_over,
            "next_obs": next_obs,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit."""
        self._batch.set_state(_batch_state(state))
        self._is_seeded, self._is_over = state["is_seeded"], state["is_over"]
        if self._is_over:
            self._next_obs = map_nested(lambda leaf: leaf.numpy().copy(), state["next_obs"])

    def close(self) -> None:
        """Release the environment."""
        self._batch.close()


class NativeVectorEnv(VectorEnv):
    """Gives a native batch the interface of Gymnasium's vector environments, for ``gymnasium.make_vec``.

    ``make_vector_env`` and the data modules of lit_rl take the batch itself, which is named ``native`` here.

    Attributes:
        native: Makes the batch.
        reported: Names of what it can report.

    Args:
        num_envs: Number N of environments.
        render_mode: ``rgb_array`` or None.
        **settings: Settings of the batch.

    Raises:
        ValueError: An unknown name, or a value out of its range.
    """

    native: ClassVar[Callable[..., Any]]
    reported: ClassVar[Sequence[str]]
    metadata: dict[str, Any] = {**_METADATA, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(self, num_envs: Copies = 1, render_mode: RenderMode = None, **settings: Any) -> None:
        check_arguments(NativeVectorEnv, locals())
        self._batch = type(self).native(num_envs, render_mode=render_mode, record=self.reported, **settings)
        self.num_envs, self.render_mode = num_envs, render_mode
        self.single_observation_space, self.single_action_space = spaces_of(self._batch.spec)
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
            return self._batch.reset(seed), {}
        return self._batch.begin_episodes(np.arange(self.num_envs)), {}

    def step(self, actions: np.ndarray) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Move all environments; where one ended, ``final_obs`` and ``final_info`` hold its last step."""
        step = self._batch.step(actions)
        info = dict[str, Any](step.metrics)
        if step.final_obs is not None:
            ended = step.terminated | step.truncated
            info["final_obs"] = map_nested(lambda leaf: _spread(leaf, ended), step.final_obs)
            info["final_info"] = dict(step.metrics) | {f"_{name}": ended for name in step.metrics}
            info["_final_obs"] = info["_final_info"] = ended
        return step.obs, step.reward, step.terminated, step.truncated, info

    def render(self) -> tuple[np.ndarray, ...] | None:
        """RGB images of all environments."""
        if self.render_mode is None:
            return None
        return tuple(self._batch.frame(env) for env in range(self.num_envs))

    def get_state(self) -> dict[str, Any]:
        """Return everything that is needed to continue exactly, as tensors and plain types."""
        return {"batch": self._batch.get_state(), "is_seeded": self._is_seeded}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit."""
        self._batch.set_state(_batch_state(state))
        self._is_seeded = state["is_seeded"]

    def close_extras(self, **kwargs: Any) -> None:
        """Release the environments."""
        self._batch.close()


def spaces_of(spec: EnvSpec) -> tuple[spaces.Space, spaces.Box]:
    """Return the spaces of the observation and of the action of one environment."""

    def box(leaf: LeafSpec) -> spaces.Box:
        return spaces.Box(-np.inf, np.inf, tuple(leaf.shape), np.float32)

    seen = spec.observation
    observation = (
        box(seen)
        if isinstance(seen, LeafSpec)
        else spaces.Dict({key: box(leaf) for key, leaf in seen.items()})
    )
    return observation, spaces.Box(-1.0, 1.0, tuple(spec.action.shape), np.float32)


def _batch_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of the batch; checkpoints of earlier versions name it after the planar arm."""
    return state["batch"] if "batch" in state else state["arms"]


def _first(obs: Any) -> Any:
    return map_nested(lambda leaf: leaf[0].copy(), obs)


def _spread(rows: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Put ``rows`` ``(K, ...)`` in their places among zeros ``(N, ...)``."""
    spread = np.zeros((len(where), *rows.shape[1:]), rows.dtype)
    spread[where] = rows
    return spread
