"""Try one copy of a user's environment before training and say in plain words what is wrong with it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.envs.gymnasium.observation import check_observation, describe
from lit_rl.envs.gymnasium.spec import env_spec


def check_env(
    make: Callable[[], gymnasium.Env], *, name: str | None = None, num_steps: int = 16, seed: int = 0
) -> None:
    """Reset and step one throw-away copy and check everything the library relies on.

    Args:
        make: Makes the copy; it is closed afterwards.
        name: Name for messages; by default the class of the environment.
        num_steps: Number of random actions to try.
        seed: Seed of the reset and of the actions.

    Raises:
        ValueError: The environment breaks Gymnasium's contract, or a space is not supported. One line.
    """
    hints: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gymnasium's own warnings say the same less clearly
        env = make()
        if not isinstance(env, gymnasium.Env):
            got = f"{type(env).__module__}.{type(env).__name__}"
            raise ValueError(f"{name or 'the environment'} is a {got}, expected a gymnasium.Env")
        name = name or type(env.unwrapped).__name__
        try:
            _check_spaces(name, env, hints)
            _check_episodes(name, env, num_steps, seed, hints)
        finally:
            env.close()
    for hint in dict.fromkeys(hints):
        warnings.warn(f"{name}: {hint}", stacklevel=2)


def _check_spaces(name: str, env: gymnasium.Env, hints: list[str]) -> None:
    for kind in ("observation_space", "action_space"):
        space = getattr(env, kind, None)
        if not isinstance(space, spaces.Space):
            raise ValueError(f"{name}: {kind} is a {type(space).__name__}, expected a gymnasium.spaces.Space")
    env_spec(name, env.observation_space, env.action_space)
    if isinstance(env.action_space, spaces.Box) and not env.action_space.is_bounded():
        hints.append("the action space has infinite bounds; finite ones such as [-1, 1] learn better")


def _check_episodes(name: str, env: gymnasium.Env, num_steps: int, seed: int, hints: list[str]) -> None:
    env.action_space.seed(seed)
    obs = _reset(name, env, seed, hints)
    for _ in range(num_steps):
        held, before = obs, copy.deepcopy(obs)
        obs, ended = _step(name, env, hints)
        _check_not_reused(name, held, before)
        if ended:
            obs = _reset(name, env, None, hints)


def _reset(name: str, env: gymnasium.Env, seed: int | None, hints: list[str]) -> Any:
    try:
        answer = env.reset(seed=seed)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"{name}: reset must accept reset(*, seed=None, options=None); {error}") from error
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(f"{name}: reset must return (obs, info), got {describe(answer)}")
    obs, info = answer
    if not isinstance(info, dict):
        raise ValueError(
            f"{name}: reset must return (obs, info) with a dict info, its info is {describe(info)}"
        )
    check_observation(name, "reset", "observation", env.observation_space, obs, hints)
    return obs


def _step(name: str, env: gymnasium.Env, hints: list[str]) -> tuple[Any, bool]:
    answer = env.step(env.action_space.sample())
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise ValueError(
            f"{name}: step must return (obs, reward, terminated, truncated, info), got {describe(answer)}"
        )
    obs, reward, terminated, truncated, info = answer
    check_observation(name, "step", "observation", env.observation_space, obs, hints)
    if isinstance(reward, bool | np.bool_) or not isinstance(reward, int | float | np.integer | np.floating):
        raise ValueError(f"{name}: reward is {describe(reward)}, expected a float")
    if not np.isfinite(reward):
        raise ValueError(f"{name}: reward is {reward}, expected a finite number")
    for key, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}: {key} is {describe(value)}, expected a bool")
    if not isinstance(info, dict):
        raise ValueError(f"{name}: info of step is {describe(info)}, expected a dict")
    return obs, bool(terminated or truncated)


def _check_not_reused(name: str, held: Any, before: Any, path: str = "observation") -> None:
    """``held`` was returned by an earlier call; the environment must not have written into it since."""
    if isinstance(held, dict):
        for key, value in held.items():
            _check_not_reused(name, value, before[key], f"{path}[{key!r}]")
    elif not np.array_equal(held, before):
        raise ValueError(
            f"{name}: step changes the {path} array it returned before; return a copy (obs.copy())"
        )
