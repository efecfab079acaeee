"""Copies of one environment that restart in the step in which they end, without losing what they saw last."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate

from lit_rl.envs.faults import fault_of
from lit_rl.envs.gymnasium.answers import check_reset, check_step
from lit_rl.envs.gymnasium.observation import check_observation

_NOTHING = object()
"""Stands for the observation of a copy whose reset has not returned."""


def keep_what_copies_report(envs: gymnasium.vector.VectorEnv, name: str) -> None:
    """Let copies in this process, also inside of vector wrappers, keep last observations and what info says.

    Gymnasium resets a copy before anybody reads its last observation, so that an environment which fills the
    same array in ``reset`` as in ``step`` loses it. It also stores what all copies report in the type that
    the first one reports, which rounds 0.75 to 0 and fails for text of another length or for arrays of
    another shape; and it does not say which copy returned what cannot be stored. Batches of other kinds stay
    as they are.

    Args:
        envs: Copies, or a batch of another kind.
        name: Name of the environment, for messages.
    """
    copies: Any = envs.unwrapped
    if isinstance(envs.unwrapped, SyncVectorEnv) and type(copies).step is SyncVectorEnv.step:
        stepped = _SteppedCopies(copies, name)
        copies._add_info = partial(add_info, copies.num_envs)  # of this batch only
        copies.reset, copies.step = stepped.reset, stepped.step


class _SteppedCopies:
    """Does what ``SyncVectorEnv`` does, but keeps each last observation, and says who returned what is wrong.

    Nothing is checked of what can be stored: a fault is looked for after it showed. Only last observations,
    which are not stored with the others, are looked at once per episode.
    """

    def __init__(self, copies: SyncVectorEnv, name: str) -> None:
        self._copies: Any = copies
        self._name, self._t = name, 0
        self._space = copies.single_observation_space
        self._is_box = isinstance(self._space, Box)
        self._first = set[int]()  # whose last observation a reset returned

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        copies = self._copies
        rows = (options or {}).get("reset_mask", np.ones(copies.num_envs, bool))
        for i in np.flatnonzero(rows):
            copies._env_obs[i] = _NOTHING
            self._first.add(int(i))
        self._t = self._t if seed is None else 0
        try:
            return SyncVectorEnv.reset(copies, seed=seed, options=options)
        except (TypeError, ValueError, KeyError):
            self._look_at_observations()
            raise

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        copies, infos = self._copies, dict[str, Any]()
        rewards, terminations, truncations = copies._rewards, copies._terminations, copies._truncations
        mode, seen = copies.autoreset_mode, copies._env_obs
        restarts = copies._autoreset_envs if mode is AutoresetMode.NEXT_STEP else None
        is_same_step = mode is AutoresetMode.SAME_STEP
        self._first.clear()
        for i, (env, action) in enumerate(
            zip(copies.envs, iterate(copies.action_space, actions), strict=True)
        ):
            if restarts is not None and restarts[i]:
                rewards[i], terminations[i], truncations[i] = 0, False, False
                infos = self._begin(i, env, infos)
                continue
            answer = env.step(action)
            try:
                obs, rewards[i], terminated, truncated, info = answer
                terminations[i], truncations[i] = terminated, truncated
                is_over = terminated or truncated
                if is_over and is_same_step:
                    info = {"final_obs": copy.deepcopy(obs), "final_info": info}
                if info:
                    infos = copies._add_info(infos, info, i)
            except (TypeError, ValueError, AttributeError):
                with fault_of(self._name, i):
                    check_step(self._name, f"step {self._t}", self._space, answer, None)
                raise
            seen[i] = obs
            if is_over:
                self._look_at_last(i, obs)
                infos = self._begin(i, env, infos) if is_same_step else infos
        self._store_observations()
        self._t += 1
        copies._autoreset_envs = np.logical_or(terminations, truncations)
        return (
            copy.deepcopy(copies._observations) if copies.copy else copies._observations,
            rewards.copy(),
            terminations.copy(),
            truncations.copy(),
            infos,
        )

    def _begin(self, i: int, env: gymnasium.Env, infos: dict[str, Any]) -> dict[str, Any]:
        """Begin an episode in copy ``i``, and return ``infos`` with what it reports."""
        answer = env.reset()
        try:
            self._copies._env_obs[i], info = answer
            self._first.add(i)
            return self._copies._add_info(infos, info, i) if info else infos
        except (TypeError, ValueError, AttributeError):
            with fault_of(self._name, i):
                check_reset(self._name, f"the reset after step {self._t}", self._space, answer, None)
            raise

    def _store_observations(self) -> None:
        copies = self._copies
        try:
            copies._observations = concatenate(self._space, copies._env_obs, copies._observations)
        except (TypeError, ValueError, KeyError):
            self._look_at_observations()
            raise

    def _look_at_last(self, i: int, obs: Any) -> None:
        if (
            self._is_box
            and getattr(obs, "shape", None) == self._space.shape
            and obs.dtype == self._space.dtype
        ):
            return
        with fault_of(self._name, i):
            check_observation(self._name, f"step {self._t}", "last observation", self._space, obs, None)

    def _look_at_observations(self) -> None:
        """Say whose observation is not of the space."""
        for i, obs in enumerate(self._copies._env_obs):
            method = f"step {self._t}"
            if i in self._first:
                method = f"the reset after {method}" if self._t else "the reset"
            if obs is not _NOTHING:
                with fault_of(self._name, i):
                    check_observation(self._name, method, "observation", self._space, obs, None)


def add_info(num_envs: int, infos: dict[Any, Any], info: dict[Any, Any], i: int) -> dict[Any, Any]:
    """Add to ``infos`` what copy ``i`` of ``num_envs`` reports, as Gymnasium does, but of any types.

    ``infos["_key"]`` tells which copies reported ``key``. Numbers, and arrays of equal shape, become an array
    of a type that holds them all, dictionaries one dictionary, and everything else an array of objects.
    """
    for key, value in info.items():
        mask = infos.setdefault(f"_{key}", np.zeros(num_envs, bool))
        held = infos.get(key)
        if key == "final_obs":
            held = _objects(num_envs) if held is None else held
            held[i] = value
        elif isinstance(value, dict) and (held is None or isinstance(held, dict)):
            held = add_info(num_envs, {} if held is None else held, value, i)
        else:
            held = _with_row(num_envs, held, mask, i, value)
        infos[key] = held
        mask[i] = True
    return infos


def _with_row(num_envs: int, held: Any, mask: np.ndarray, i: int, value: Any) -> np.ndarray:
    """Return ``held`` with ``value`` in row ``i``, in a type that holds both; ``mask`` tells its rows."""
    if isinstance(value, bool | int | float | np.number | np.bool_ | np.ndarray):
        row = np.asarray(value)
        if row.dtype.kind in "biuf":
            held = np.zeros((num_envs, *row.shape), row.dtype) if held is None else held
            if isinstance(held, np.ndarray) and held.dtype.kind in "biuf" and held.shape[1:] == row.shape:
                held = held.astype(np.result_type(held.dtype, row.dtype), copy=False)
                held[i] = row
                return held
    objects = _objects(num_envs)
    for at in np.flatnonzero(mask):
        objects[at] = held if isinstance(held, dict) else held[at]
    objects[i] = value
    return objects


def _objects(num_envs: int) -> np.ndarray:
    return np.full(num_envs, None, object)
