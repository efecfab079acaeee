"""The arrays of a rollout while it is collected, and what is checked of it.

Axes: T steps, N environments, A agents, O observation features.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lit_rl.checks import check_finite
from lit_rl.collect.masks import check_masks
from lit_rl.nested import map_nested, map_with_path, named_leaves
from lit_rl.types import STATE, EnvSpec, Nested, NestedArray, Rollout, Step


class Memory(Protocol):
    """Gives the arrays of a rollout, each by the keys that lead to it in ``Rollout``."""

    def array(self, path: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return an array whose entries nobody reads before they are written."""
        ...

    def tensor(self, path: tuple[str, ...], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return such a tensor, with the dtype of ``like``."""
        ...


class PrivateMemory:
    """Memory of this process, new for every rollout."""

    def array(self, path: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return a new array."""
        return np.empty(shape, dtype)

    def tensor(self, path: tuple[str, ...], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return a new tensor on the device of ``like``."""
        return like.new_empty(shape)


class Storage:
    """Arrays of one rollout, written step by step; numpy and torch share the memory.

    Args:
        num_steps: Number T of steps.
        num_envs: Number N of environments.
        obs: What the policy sees at the first step.
        memory: The memory that gives the arrays.
    """

    def __init__(self, num_steps: int, num_envs: int, obs: NestedArray, memory: Memory) -> None:
        self.num_steps, self.num_envs, self._memory = num_steps, num_envs, memory
        self.obs = map_with_path(
            lambda path, leaf: memory.array(path, (num_steps + 1, *leaf.shape), leaf.dtype), obs, ("obs",)
        )
        self._obs_tensors = map_nested(torch.from_numpy, self.obs)
        self._single = isinstance(self.obs, np.ndarray)
        self._obs_views = self._obs_tensors.unbind(0) if self._single else ()
        self.reset = memory.array(("reset",), (num_steps + 1, num_envs), np.dtype(bool))
        self._reset_views = torch.from_numpy(self.reset).unbind(0)
        self.terminated = memory.array(("terminated",), (num_steps, num_envs), np.dtype(bool))
        self.truncated = memory.array(("truncated",), (num_steps, num_envs), np.dtype(bool))
        self.valid: np.ndarray | None = None
        self.reward = np.empty(0, np.float32)
        self.action = np.empty(0)
        self.extras: dict[str, Tensor] = {}
        self.metrics: dict[str, np.ndarray] = {}
        self.final_index: list[np.ndarray] = []
        self.final_obs: list[NestedArray] = []
        self._write_obs(0, obs)

    def obs_at(self, t: int) -> Nested:
        """Return what the policy sees at step ``t``."""
        return self._obs_views[t] if self._single else map_nested(lambda leaf: leaf[t], self._obs_tensors)

    def reset_at(self, t: int, device: torch.device) -> Tensor:
        """Return where an episode starts at step ``t``, on ``device``."""
        view = self._reset_views[t]
        return view if device.type == "cpu" else view.to(device, non_blocking=True)

    def _write_obs(self, t: int, obs: NestedArray) -> None:
        if self._single:
            self.obs[t] = obs  # type: ignore[call-overload]  # an array, not a dict
        else:
            map_nested(lambda storage, leaf: storage.__setitem__(t, leaf), self.obs, obs)

    def write(self, t: int, action: np.ndarray, extras: dict[str, Tensor], step: Step) -> None:
        """Write what was decided at step ``t``, and what came of it."""
        if t == 0:
            self._allocate(action, extras, step)
        self.action[t] = action
        for key, value in extras.items():
            self.extras[key][t] = value
        self.reward[t] = step.reward
        self.terminated[t], self.truncated[t] = step.terminated, step.truncated
        if step.valid is None:
            np.logical_or(step.terminated, step.truncated, out=self.reset[t + 1])
        else:
            self._valid()[t] = step.valid
            np.logical_not(step.valid, out=self.reset[t + 1])
        if step.final_obs is not None:
            ended = np.flatnonzero(step.terminated | step.truncated)
            self.final_index.append(ended + t * self.num_envs)
            self.final_obs.append(map_nested(np.array, step.final_obs))  # all else is copied by writing
        for key, value in step.metrics.items():
            self.metrics[key][t] = value
        self._write_obs(t + 1, step.obs)

    def _allocate(self, action: np.ndarray, extras: dict[str, Tensor], step: Step) -> None:
        steps, array = self.num_steps, self._memory.array
        real = np.dtype(np.float32)
        self.action = array(("action",), (steps, *action.shape), action.dtype)
        self.extras = {
            key: self._memory.tensor(("extras", key), (steps, *value.shape), value)
            for key, value in extras.items()
        }
        self.reward = array(("reward",), (steps, *step.reward.shape), real)
        self.metrics = {key: array(("metrics", key), (steps, self.num_envs), real) for key in step.metrics}

    def _valid(self) -> np.ndarray:
        if self.valid is None:
            self.valid = np.ones((self.num_steps, self.num_envs), bool)
        return self.valid

    def rollout(self, carry: Nested, policy_version: int) -> Rollout:
        """Return all that was written; the collector adds episodes and seconds."""
        tensor = torch.from_numpy
        if self.final_obs:
            final_obs = map_nested(lambda *parts: tensor(np.concatenate(parts)), *self.final_obs)
            final_index = tensor(np.concatenate(self.final_index))
        else:
            final_obs = map_nested(lambda leaf: leaf[0, :0], self._obs_tensors)  # (0, ...)
            final_index = torch.empty(0, dtype=torch.int64)
        return {
            "obs": self._obs_tensors,
            "reset": tensor(self.reset),
            "action": tensor(self.action),
            "reward": tensor(self.reward),
            "terminated": tensor(self.terminated),
            "truncated": tensor(self.truncated),
            "valid": None if self.valid is None else tensor(self.valid),
            "final_index": final_index,
            "final_obs": final_obs,
            "extras": self.extras,
            "carry": carry,
            "new_steps": self.terminated.size,
            "num_envs": self.num_envs,
            "metrics": {key: tensor(value) for key, value in self.metrics.items()},
            "collector": {},
            "episodes": {},  # type: ignore[typeddict-item]  # the collector adds them
            "policy_version": policy_version,
            "collect_s": 0.0,
            "env_s": 0.0,
        }


def check_rollout(spec: EnvSpec, rollout: Rollout) -> None:
    """Refuse values that are not finite, and masks that allow nothing, naming step, environment and agent.

    Raises:
        FloatingPointError: An observation or a reward is not finite.
        ValueError: An action mask allowed nothing.
    """
    named = {"reward": rollout["reward"]}
    for field in ("obs", "final_obs"):
        named |= {f"{field}/{path}".rstrip("/"): leaf for path, leaf in named_leaves(rollout[field])}
    for name, leaf in named.items():
        # a finite sum proves every entry finite; only another sum is looked at entry by entry
        if leaf.is_floating_point() and not bool(torch.isfinite(leaf.sum())):
            if name.startswith("final"):  # put where they were seen, so that the message speaks of steps
                everywhere = leaf.new_zeros(rollout["terminated"].numel(), *leaf.shape[1:])
                everywhere[rollout["final_index"]] = leaf
                leaf = everywhere.unflatten(0, rollout["terminated"].shape)
            has_agents = spec.agents and leaf.ndim > 2 and not name.endswith(f"/{STATE}")
            axes = f"{'TNA' if has_agents else 'TN':O<{leaf.ndim}}"
            check_finite("the environment returned", spec.agents, **{f"{name}_{axes}": leaf})
    if spec.has_action_mask:  # what the last observation allows is looked at when it is acted on
        seen = map_nested(lambda leaf: leaf[:-1].numpy(), rollout["obs"])
        valid = rollout["valid"]
        check_masks(spec, seen, None if valid is None else valid.numpy(), "this rollout")
