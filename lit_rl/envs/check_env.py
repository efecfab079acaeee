"""Try one copy of a user's environment before training and say in plain words what is wrong with it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from lit_rl.envs.gym_spec import env_spec


def check_env(
    make: Callable[[], gymnasium.Env], *, name: str | None = None, num_steps: int = 16, seed: int = 0
) -> None:
    """Reset and step one throw-away copy and check everything the library relies on.

    Args:
        make: Makes the copy; it is closed afterwards.
        name: Used in messages; the class of the environment by default.
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
        raise ValueError(f"{name}: reset must return (obs, info), got {_describe(answer)}")
    obs, info = answer
    if not isinstance(info, dict):
        raise ValueError(
            f"{name}: reset must return (obs, info) with a dict info, its info is {_describe(info)}"
        )
    _check_obs(name, "reset", "observation", env.observation_space, obs, hints)
    return obs


def _step(name: str, env: gymnasium.Env, hints: list[str]) -> tuple[Any, bool]:
    answer = env.step(env.action_space.sample())
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise ValueError(
            f"{name}: step must return (obs, reward, terminated, truncated, info), got {_describe(answer)}"
        )
    obs, reward, terminated, truncated, info = answer
    _check_obs(name, "step", "observation", env.observation_space, obs, hints)
    if isinstance(reward, bool | np.bool_) or not isinstance(reward, int | float | np.integer | np.floating):
        raise ValueError(f"{name}: reward is {_describe(reward)}, expected a float")
    if not np.isfinite(reward):
        raise ValueError(f"{name}: reward is {reward}, expected a finite number")
    for key, value in (("terminated", terminated), ("truncated", truncated)):
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name}: {key} is {_describe(value)}, expected a bool")
    if not isinstance(info, dict):
        raise ValueError(f"{name}: info of step is {_describe(info)}, expected a dict")
    return obs, bool(terminated or truncated)


def _check_obs(name: str, method: str, path: str, space: spaces.Space, obs: Any, hints: list[str]) -> None:
    """Compare an observation with its space, leaf by leaf, naming the Dict key in question."""
    where = f"{name}: {path} of {method}"
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, dict):
            raise ValueError(f"{where} is {_describe(obs)}, expected a dict with keys {list(space.spaces)}")
        if obs.keys() != space.spaces.keys():
            raise ValueError(f"{where} has keys {sorted(obs)}, its space has {sorted(space.spaces)}")
        for key, inner in space.spaces.items():
            _check_obs(name, method, f"{path}[{key!r}]", inner, obs[key], hints)
    elif isinstance(space, spaces.Discrete):
        if not isinstance(obs, int | np.integer) and not (isinstance(obs, np.ndarray) and obs.shape == ()):
            raise ValueError(f"{where} is {_describe(obs)}, expected an integer")
        if not space.contains(obs):
            raise ValueError(f"{where} is {obs}, expected {space.start} to {space.start + space.n - 1}")
    else:
        _check_array(where, space, obs, hints)


def _check_array(where: str, space: spaces.Space, obs: Any, hints: list[str]) -> None:
    if not isinstance(obs, np.ndarray | np.generic):
        raise ValueError(f"{where} is {_describe(obs)}, expected a numpy array of shape {space.shape}")
    if obs.shape != space.shape:
        raise ValueError(f"{where} has shape {obs.shape}, its space has {space.shape}")
    if space.dtype is not None and not np.can_cast(obs.dtype, space.dtype):
        raise ValueError(
            f"{where} has dtype {obs.dtype}, its space has {space.dtype}; return obs.astype(...)"
        )
    if np.issubdtype(obs.dtype, np.floating) and not np.isfinite(obs).all():
        raise ValueError(f"{where} has {np.count_nonzero(~np.isfinite(obs))} values that are NaN or infinite")
    if space.contains(obs):
        return
    if not isinstance(space, spaces.Box):
        raise ValueError(f"{where} is {obs.tolist()}, outside of {space}")
    hints.append(f"{where.partition(': ')[2]} leaves the bounds of its space; widen them or clip the values")


def _check_not_reused(name: str, held: Any, before: Any, path: str = "observation") -> None:
    """``held`` was returned by an earlier call; the environment must not have written into it since."""
    if isinstance(held, dict):
        for key, value in held.items():
            _check_not_reused(name, value, before[key], f"{path}[{key!r}]")
    elif not np.array_equal(held, before):
        raise ValueError(
            f"{name}: step changes the {path} array it returned before; return a copy (obs.copy())"
        )


def _describe(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, np.ndarray):
        return f"a numpy array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)} values"
    if value is None:
        return "None"
    return f"a {type(value).__name__}"
