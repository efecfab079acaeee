"""Copies of one environment that restart in the step in which they end, without losing what they saw last."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import concatenate, iterate


def keep_last_observations(envs: gymnasium.vector.VectorEnv) -> None:
    """Let copies in this process, also inside of vector wrappers, keep the last observations of episodes.

    Gymnasium resets a copy before anybody reads its last observation, so that an environment which fills the
    same array in ``reset`` as in ``step`` loses it. Batches of other kinds stay as they are.
    """
    copies = envs.unwrapped
    if not isinstance(copies, SyncVectorEnv) or type(copies).step is not SyncVectorEnv.step:
        return
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
