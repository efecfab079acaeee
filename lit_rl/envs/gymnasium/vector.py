"""A Gymnasium vector environment as a ``VectorEnv``, whatever its autoreset mode.

Gymnasium restarts finished episodes in three ways (``metadata["autoreset_mode"]``). With *same-step* the
observation returned is already the next episode's and the last one hides in ``info``. With *next-step* the
call after the end of an episode only resets. *Disabled* leaves the reset to us. ``GymnasiumVectorEnv`` makes
one ``Step`` of all three.

Axes: N environments.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from lit_rl.envs.gymnasium import exact_state
from lit_rl.envs.gymnasium.copies import keep_what_copies_report
from lit_rl.envs.gymnasium.observation import check_observation
from lit_rl.envs.gymnasium.spec import action_caster, env_spec, observation_caster, stack_rows, take_rows
from lit_rl.envs.packed import unpack
from lit_rl.types import NestedArray, Step


class GymnasiumVectorEnv:
    """A ``gymnasium.vector.VectorEnv`` seen as a ``VectorEnv``; it returns new arrays only.

    Args:
        envs: The batched environments, whatever their autoreset mode.
        name: Name for messages.
        record: Keys of ``info`` to return in ``Step.metrics``; NaN where an environment did not report one.

    Raises:
        ValueError: A space or the autoreset mode is not supported, or the environments run in processes of
            Gymnasium's, which a signal to the whole job kills.
    """

    def __init__(self, envs: gymnasium.vector.VectorEnv, name: str, record: Sequence[str] = ()) -> None:
        if isinstance(envs.unwrapped, AsyncVectorEnv):
            kind = type(envs.unwrapped).__name__
            raise ValueError(
                f"{name}: a run with a {kind} hangs on Ctrl-C, which kills its processes; give the "
                "environment itself, with vectorization='async'"
            )
        self.envs = envs
        self.num_envs = envs.num_envs
        self.spec = env_spec(name, envs.single_observation_space, envs.single_action_space)
        self._mode = _read_autoreset(envs, name)
        keep_what_copies_report(envs, name)
        self._cast = observation_caster(envs.single_observation_space)
        self._to_action = action_caster(envs.single_action_space)
        self._action_shape = (self.num_envs, *self.spec.action.shape)
        self._valid = np.ones(self.num_envs, bool)  # which rows of the next step are transitions
        self._record = tuple(record)
        self._never_reported = set(record)
        self._closed, self._t = False, 0

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i`` (native batches have one stream)."""
        obs, _ = self.envs.reset(seed=int(seed))
        self._valid[:], self._t = True, 0
        return self._to_obs(obs, "the reset")

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, ...)``; ``Step`` says what comes back.

        Raises:
            EnvironmentFaultError: An environment returned what is not of its spaces.
            ValueError: ``action`` has another shape than the action space, or a metric is not a number.
        """
        if action.shape != self._action_shape:
            expected = f"action must have shape {self._action_shape} (num_envs first)"
            raise ValueError(f"{self.spec.name}: {expected}, got {action.shape}")
        env_obs, env_reward, env_terminated, env_truncated, info = self.envs.step(self._to_action(action))
        obs = self._to_obs(env_obs, "step")
        reward = np.array(env_reward, np.float32)
        terminated = np.array(env_terminated, bool)
        truncated = np.array(env_truncated, bool)
        ended = terminated | truncated
        some_ended = bool(np.count_nonzero(ended))
        metrics = self._metrics(info, ended, some_ended) if self._record else {}
        final_obs = valid = None
        if self._mode is AutoresetMode.NEXT_STEP:
            valid, self._valid = self._valid, ~ended
        if some_ended:
            if self._mode is AutoresetMode.SAME_STEP:
                final_obs = self._cast(_final_obs(info, ended))
            else:
                final_obs = take_rows(obs, ended)
            if self._mode is AutoresetMode.DISABLED:
                obs = self._cast(self.envs.reset(options={"reset_mask": ended})[0])
        self._t += 1
        return Step(obs, reward, terminated, truncated, final_obs, valid, metrics)

    def _to_obs(self, obs: Any, method: str) -> NestedArray:
        """Cast what ``method`` of the batch returned; say what is wrong with it where that fails."""
        try:
            return self._cast(obs)
        except (TypeError, ValueError, KeyError, IndexError):
            space = getattr(self.envs, "observation_space", None)
            if space is not None:
                method = f"{method} {self._t}" if method == "step" else method
                check_observation(self.spec.name, method, "observation", space, obs, None)
            raise

    def _metrics(self, info: dict[str, Any], ended: np.ndarray, some_ended: bool) -> dict[str, np.ndarray]:
        """Return recorded values; with same-step autoreset those of ended rows stand in ``final_info``."""
        is_same_step = self._mode is AutoresetMode.SAME_STEP
        final_info = info.get("final_info", {}) if is_same_step else {}
        rows = ~ended if is_same_step else self._valid
        metrics = {}
        for name in self._record:
            metrics[name] = values = np.full(self.num_envs, np.nan, np.float32)
            if _fill(values, info, name, rows) | _fill(values, final_info, name, ended):
                self._never_reported.discard(name)
        if some_ended and self._never_reported:
            keys = {str(key) for key in (*info, *final_info)}
            reported = sorted(key for key in keys if not key.startswith(("_", "final_")))
            warnings.warn(
                f"{self.spec.name}: record={sorted(self._never_reported)} was not in info during a whole "
                f"episode, and counts as not reported until it is; the environment reports "
                f"{reported or 'nothing'}",
                stacklevel=2,
            )
            self._never_reported.clear()
        return metrics

    @property
    def unknown_class(self) -> str | None:
        """Name of the first class whose state cannot be saved; None when ``get_state`` works."""
        return exact_state.unknown_class(self.envs)

    def get_state(self) -> dict[str, Any] | None:
        """Return the state of all environments and their random streams; None with an unknown class."""
        state = exact_state.get_state(self.envs)
        if isinstance(state, list):  # of copies, which may be divided over processes in another way
            valid = self._valid.tolist()
            return {
                "envs": [{**copy, "valid": is_valid} for copy, is_valid in zip(state, valid, strict=True)]
            }
        return None if state is None else {"envs": state, "valid": self._valid.tolist()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of other environments or another number of them.
        """
        envs = states_of_copies(state) if "rows" in state["envs"] else state["envs"]
        exact_state.set_state(self.envs, envs)
        valid = [copy["valid"] for copy in envs] if isinstance(envs, list) else state["valid"]
        self._valid = np.array(valid, bool)

    def frame(self) -> np.ndarray:
        """RGB array ``(height, width, 3)`` of environment 0.

        Raises:
            ValueError: The environments were made without ``render=True``.
        """
        if self.envs.render_mode != "rgb_array":
            raise ValueError(f"{self.spec.name}: frame() needs environments made with render=True")
        if isinstance(self.envs, SyncVectorEnv):
            return np.asarray(self.envs.envs[0].render())
        return np.asarray(cast("Any", self.envs.render())[0])

    def close(self) -> None:
        """Close the environments and end their processes. May be called twice."""
        if self._closed:
            return
        self._closed = True
        self.envs.close()


def states_of_copies(state: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the state of each copy, also from one saved before copies were divided over processes.

    Raises:
        ValueError: The state is not of copies, but of a batch.
    """
    envs = state.get("envs") if isinstance(state, dict) else None
    if isinstance(envs, list):
        return envs
    if not isinstance(envs, dict) or "rows" not in envs:
        raise ValueError("the state is of another vectorization than copies of one environment")
    restarts, valid = unpack(envs["autoreset"]).tolist(), state["valid"]
    return [
        {"layers": layers, "autoreset": restart, "valid": is_valid}
        for layers, restart, is_valid in zip(envs["rows"], restarts, valid, strict=True)
    ]


def _read_autoreset(envs: gymnasium.vector.VectorEnv, name: str) -> AutoresetMode:
    mode = envs.metadata.get("autoreset_mode")
    try:
        return AutoresetMode(mode)
    except ValueError:
        known = ", ".join(mode.value for mode in AutoresetMode)
        raise ValueError(
            f"{name}: metadata['autoreset_mode'] of {type(envs).__name__} must be one of {known}, "
            f"got {mode!r}; it says which observations are the last of an episode"
        ) from None


def _final_obs(info: dict[str, Any], ended: np.ndarray) -> Any:
    """Return the true last observations of a same-step autoreset, which are an object array or a batch."""
    if "final_obs" not in info:
        raise ValueError(
            f"same-step autoreset needs the last observations in info['final_obs'], got {[*info]}"
        )
    final_obs = info["final_obs"]
    if isinstance(final_obs, np.ndarray) and final_obs.dtype == object:
        return stack_rows(list(final_obs[ended]))
    return take_rows(final_obs, ended)


def _fill(values: np.ndarray, info: dict[str, Any], name: str, rows: np.ndarray) -> bool:
    """Copy ``info[name]`` into the ``rows`` of ``values`` that report it; returns whether any did."""
    if name not in info:
        return False
    rows = rows & info.get(f"_{name}", True)
    try:
        values[rows] = info[name][rows]
    except (TypeError, ValueError) as error:
        got = f"{info[name]!r:.80}"
        raise ValueError(f"record={name!r} must be one number per environment, got {got}") from error
    return bool(rows.any())
