"""Copies of one environment that restart in the step in which they end, without losing what they saw last."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate


def keep_what_copies_report(envs: gymnasium.vector.VectorEnv) -> None:
    """Let copies in this process, also inside of vector wrappers, keep last observations and what info says.

    Gymnasium resets a copy before anybody reads its last observation, so that an environment which fills the
    same array in ``reset`` as in ``step`` loses it. It also stores what all copies report in the type that
    the first one reports, which rounds 0.75 to 0 and fails for text of another length or for arrays of
    another shape. Batches of other kinds stay as they are.
    """
    copies = envs.unwrapped
    if not isinstance(copies, SyncVectorEnv) or type(copies).step is not SyncVectorEnv.step:
        return
    copies._add_info = partial(add_info, copies.num_envs)  # pyright: ignore[reportAttributeAccessIssue]
    if copies.autoreset_mode is AutoresetMode.SAME_STEP:
        copies.step = partial(_step, copies)  # pyright: ignore[reportAttributeAccessIssue]  # of this one only


def _step(copies: SyncVectorEnv, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict]:
    """Do what ``SyncVectorEnv.step`` does in this mode, but copy an observation before the reset after it."""
    infos: dict[str, Any] = {}
    for i, (env, action) in enumerate(zip(copies.envs, iterate(copies.action_space, actions), strict=True)):
        obs, copies._rewards[i], terminated, truncated, info = env.step(action)
        copies._terminations[i], copies._truncations[i] = terminated, truncated
        if terminated or truncated:
            last = {"final_obs": copy.deepcopy(obs), "final_info": info}
            infos = copies._add_info(infos, last, i)
            obs, info = env.reset()
        copies._env_obs[i] = obs
        if info:
            infos = copies._add_info(infos, info, i)
    copies._observations = concatenate(copies.single_observation_space, copies._env_obs, copies._observations)
    copies._autoreset_envs = np.logical_or(copies._terminations, copies._truncations)
    return (
        copy.deepcopy(copies._observations) if copies.copy else copies._observations,
        copies._rewards.copy(),
        copies._terminations.copy(),
        copies._truncations.copy(),
        infos,
    )


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
