"""A chunk of experience: what an actor plays between two messages, and what a learner reads of it.

Axes: T steps, N environments, K finished episodes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lit_rl.nested import map_nested, path_to
from lit_rl.remote.wire import Frame, WireError, flatten
from lit_rl.types import EnvSpec, LeafSpec, NestedArray, Step

_FLAGS = ("terminated", "truncated", "valid")


class Recording:
    """Keeps T steps of N environments.

    Args:
        obs: Observation before the first step, leaves ``(N, ...)``.
        reset: ``(N,)`` bool, True where an episode starts with it.
    """

    def __init__(self, obs: NestedArray, reset: np.ndarray) -> None:
        self._obs, self._reset = [map_nested(np.array, obs)], [np.array(reset)]
        self._steps: list[tuple[np.ndarray, Step]] = []
        self._final_index: list[np.ndarray] = []
        self._final_obs: list[NestedArray] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, action: np.ndarray, step: Step) -> None:
        """Add what was done, and what came of it."""
        ended = step.terminated | step.truncated
        if step.final_obs is not None:
            self._final_index.append(np.flatnonzero(ended) + len(self._steps) * len(ended))
            self._final_obs.append(map_nested(np.array, step.final_obs))
        self._steps.append((action, step))
        self._obs.append(step.obs)
        self._reset.append(ended if step.valid is None else ~step.valid)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return everything as arrays by name."""
        stack = lambda *leaves: np.stack(leaves)  # noqa: E731
        steps = [step for _, step in self._steps]
        arrays = {
            **flatten("obs", map_nested(stack, *self._obs)),
            "reset": np.stack(self._reset),
            "action": np.stack([action for action, _ in self._steps]),
            "reward": np.stack([step.reward for step in steps]).astype(np.float32, copy=False),
            "terminated": np.stack([step.terminated for step in steps]),
            "truncated": np.stack([step.truncated for step in steps]),
        }
        if any(step.valid is not None for step in steps):
            everywhere = np.ones(len(self._reset[0]), bool)
            arrays["valid"] = np.stack([everywhere if s.valid is None else s.valid for s in steps])
        for name in steps[0].metrics:
            arrays[f"metrics/{name}"] = np.stack([step.metrics[name] for step in steps])
        if self._final_obs:
            joined = map_nested(lambda *leaves: np.concatenate(leaves), *self._final_obs)
            arrays |= {"final_index": np.concatenate(self._final_index), **flatten("final_obs", joined)}
        return arrays


def read_chunk(frame: Frame, spec: EnvSpec, num_envs: int) -> dict[str, Any]:
    """Check a chunk, and return the parts of a rollout that it holds, as arrays of its own.

    Args:
        frame: A frame ``chunk``.
        spec: Observation and action of the learner's environment.
        num_envs: Number N of environments.

    Returns:
        ``obs`` ``(T+1, N, ...)``, ``reset``, ``action``, ``reward``, ``terminated``, ``truncated``, ``valid``
        (None where all are transitions), ``metrics``, ``final_index`` and ``final_obs``.

    Raises:
        WireError: An array is missing, or has another shape or dtype than the environment's.
        FloatingPointError: An observation, an action or a reward is not finite.
    """
    arrays = frame.arrays
    terminated = arrays.get("terminated")
    if terminated is None or terminated.ndim != 2 or not 0 < len(terminated) <= 1_000_000:
        raise WireError("a chunk has no steps")
    lead = (len(terminated), num_envs)
    for name in _FLAGS:
        if (name != "valid" or name in arrays) and not _is(arrays.get(name), lead, np.bool_):
            raise WireError(_wrong(f"chunk: {name}", lead, "bool", arrays.get(name)))
    reward = arrays.get("reward")
    rewards = (*lead, len(spec.agents)) if reward is not None and reward.ndim == 3 and spec.agents else lead
    if not _is(reward, rewards, np.float32):
        raise WireError(_wrong("chunk: reward", rewards, "float32", reward))
    agents = (len(spec.agents),) if spec.agents else ()
    actions = (*lead, *agents, *spec.action.shape)
    action = arrays.get("action")
    if action is None or action.shape != actions:
        raise WireError(_wrong("chunk: action", actions, spec.action.dtype or "float32", action))
    if not _is(arrays.get("reset"), (lead[0] + 1, num_envs), np.bool_):
        raise WireError(_wrong("chunk: reset", (lead[0] + 1, num_envs), "bool", arrays.get("reset")))
    ended = np.flatnonzero((terminated | arrays["truncated"]).reshape(-1))
    final_index = arrays.get("final_index", np.zeros(0, np.int64))
    if final_index.dtype != np.int64 or not np.array_equal(final_index, ended):
        raise WireError("chunk: final_index does not name the steps at which episodes ended")
    obs = _observations("obs", arrays, spec, (lead[0] + 1, num_envs, *agents))
    if len(ended):
        final_obs = _observations("final_obs", arrays, spec, (len(ended), *agents))
    else:
        final_obs = map_nested(lambda leaf: np.empty((0, *leaf.shape[2:]), leaf.dtype), obs)
    metrics = {name[8:]: array for name, array in arrays.items() if name.startswith("metrics/")}
    for name, array in metrics.items():
        if array.shape != lead:
            raise WireError(_wrong(f"chunk: metrics/{name[:40]}", lead, "float32", array))
    _check_finite({**flatten("obs", obs), **flatten("final_obs", final_obs), "action": action,
                   "reward": arrays["reward"]})  # fmt: skip
    copied = {name: np.array(arrays[name]) for name in ("reset", "action", "reward", *_FLAGS[:2])}
    return {
        **copied,
        "obs": obs,
        "final_obs": final_obs,
        "final_index": np.array(final_index),
        "valid": np.array(arrays["valid"]) if "valid" in arrays else None,
        "metrics": {name: np.array(array, np.float32) for name, array in metrics.items()},
    }


def _observations(
    field: str, arrays: Mapping[str, np.ndarray], spec: EnvSpec, lead: tuple[int, ...]
) -> NestedArray:
    """Take the leaves of an observation, each of the shape and dtype that policies receive."""

    def take(path: str, leaf: LeafSpec) -> np.ndarray:
        array, shape = arrays.get(f"{field}/{path}" if path else field), (*lead, *leaf.shape)
        is_real = np.dtype(leaf.dtype).kind == "f"
        good = array is not None and (array.dtype == np.float32 if is_real else array.dtype.kind in "iub")
        if array is None or not good or array.shape != shape:
            expected = "float32" if is_real else "integers"
            raise WireError(_wrong(f"chunk: {field}/{path}".rstrip("/"), shape, expected, array))
        if leaf.categories and array.size:
            choices = np.broadcast_to(np.reshape(leaf.categories, leaf.shape), array.shape)
            if (array < 0).any() or (array >= choices).any():
                raise WireError(f"chunk: {field}/{path} holds choices that the environment does not have")
        return np.array(array)

    def walk(tree: Any, path: str) -> NestedArray:
        if isinstance(tree, dict):
            return {key: walk(leaf, path_to(path, key)) for key, leaf in tree.items()}
        return take(path, tree)

    return walk(spec.observation, "")


def _check_finite(arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if array.dtype.kind != "f":
            continue
        with np.errstate(over="ignore", invalid="ignore"):  # a sum is fast, and decides in most cases
            is_finite = bool(np.isfinite(array.sum()))
        if not is_finite:
            bad = np.argwhere(~np.isfinite(array))
            if len(bad):
                raise FloatingPointError(f"{name} is {array[tuple(bad[0])]} at step {bad[0][0]}")


def _is(array: np.ndarray | None, shape: tuple[int, ...], dtype: Any) -> bool:
    return array is not None and array.shape == shape and array.dtype == dtype


def _wrong(name: str, shape: tuple[int, ...], dtype: str, array: np.ndarray | None) -> str:
    got = "nothing" if array is None else f"{array.dtype} {array.shape}"
    return f"{name} must be {dtype} {shape}, got {got}"
