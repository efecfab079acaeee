"""Step environments, and look in passing at what they return: shapes, dtypes and categories.

Axes: N environments, A agents, K finished episodes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_rl.envs.faults import environment_exit
from lit_rl.envs.trial.arrays import ArrayCheck
from lit_rl.types import STATE, LeafSpec, NestedArray, Step, VectorEnv


class Stepper:
    """Steps a batch for whoever plays it, and compares what comes back with its ``spec``; in 1 to 4 us.

    Refused are arrays of another shape or dtype than ``spec`` says, keys that are missing, flags that are not
    bool, last observations that are missing, and categories out of their range. Looked at elsewhere, once per
    rollout, are values that are NaN or infinite. Nothing is said of these:

    - values outside of the bounds of a Box observation, which nothing is computed from: they are learned from
      as they are;
    - floats of another width, of copies of an environment: they are cast to the dtype of the space, rewards
      to float32;
    - ``terminated`` and ``truncated`` of one environment that are no bool: their truth counts;
    - further keys of a Dict observation: they are left out.

    ``check_env`` and ``check_parallel``, which try an environment before training, refuse or warn of them.

    Args:
        env: The batch.
    """

    def __init__(self, env: VectorEnv) -> None:
        self._env, self._t = env, 0
        self._spec, self._num_envs = spec, num_envs = env.spec, env.num_envs
        agents = (len(spec.agents),) if spec.agents else ()
        self._flags, self._rewards = (num_envs,), {(num_envs,), (num_envs, *agents)}
        self._leaves = [_expected(path, leaf, agents) for path, leaf in _paths(spec.observation)]
        if spec.state:
            self._leaves.append(((STATE,), (spec.state,), np.dtype(spec.state_dtype), None))

    def reset(self, seed: int) -> NestedArray:
        """Reset the batch; steps count from 0 again.

        Raises:
            EnvironmentFaultError: What it returned differs from its ``spec``.
            EnvironmentExitError: It called ``sys.exit``.
        """
        try:
            obs = self._env.reset(seed)
        except SystemExit as error:
            raise environment_exit(error, self._spec.name) from error
        self._t = 0
        if not self._fits(obs, self._num_envs):
            self._arrays().observation("observation", "the reset", obs, acts=False)
        return obs

    def step(self, action: np.ndarray) -> Step:
        """Step the batch.

        Raises:
            EnvironmentFaultError: What it returned differs from its ``spec``.
            EnvironmentExitError: It called ``sys.exit``.
        """
        try:
            step = self._env.step(action)
        except SystemExit as error:
            raise environment_exit(error, self._spec.name) from error
        if not self._is_right(step):
            self._arrays().late(self._t, step)
        self._t += 1
        return step

    def _is_right(self, step: Step) -> bool:
        try:
            ended = step.terminated | step.truncated
            return (
                ended.shape == self._flags
                and ended.dtype == bool
                and step.terminated.dtype == step.truncated.dtype
                and step.reward.shape in self._rewards
                and step.reward.dtype == np.float32
                and self._fits(step.obs, self._num_envs)
                and self._fits_last(step, int(np.count_nonzero(ended)))
            )
        except (AttributeError, TypeError, ValueError):  # no arrays, or their shapes do not match
            return False

    def _arrays(self) -> ArrayCheck:
        return ArrayCheck(self._spec.name, self._spec, self._num_envs)

    def _fits_last(self, step: Step, num_ended: int) -> bool:
        if not num_ended or step.final_obs is None:
            return not num_ended and step.final_obs is None
        return self._fits(step.final_obs, num_ended)

    def _fits(self, obs: Any, num_rows: int) -> bool:
        try:
            for path, shape, dtype, limits in self._leaves:
                leaf = obs
                for key in path:
                    leaf = leaf[key]
                if leaf.shape != (num_rows, *shape) or leaf.dtype != dtype:
                    return False
                if limits is not None and np.count_nonzero(leaf.view(limits.dtype) >= limits):
                    return False
        except (KeyError, IndexError, AttributeError, TypeError, ValueError):
            return False
        return True


def _paths(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], LeafSpec]]:
    """Return the keys that lead to each leaf of a spec, and the leaf."""
    if isinstance(tree, LeafSpec):
        return [(path, tree)]
    return [found for key, inner in tree.items() for found in _paths(inner, (*path, key))]


def _expected(
    path: tuple[str, ...], leaf: LeafSpec, agents: tuple[int, ...]
) -> tuple[tuple[str, ...], tuple[int, ...], np.dtype, np.ndarray | None]:
    """Return path, shape of a row, dtype, and what each category must be below of a leaf.

    Categories are compared as unsigned integers, of which those that are negative are the largest.
    """
    dtype, limits = np.dtype(leaf.dtype), None
    if leaf.categories:
        limits = np.array(leaf.categories, f"u{dtype.itemsize}").reshape(leaf.shape)
    return path, (*agents, *leaf.shape), dtype, limits
