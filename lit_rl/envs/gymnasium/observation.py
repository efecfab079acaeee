"""Compare one observation with the space that its environment declares, in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces


def check_observation(
    name: str, method: str, path: str, space: spaces.Space, obs: Any, hints: list[str] | None
) -> None:
    """Compare an observation with its space, leaf by leaf.

    Args:
        name: Name of the environment, for messages.
        method: Method of the environment that returned ``obs``, for messages.
        path: Words that lead to ``obs``, such as ``observation['inner']``, for messages.
        space: Space that the environment declares.
        obs: Observation to check.
        hints: List that receives what is worth a warning but no error. None looks only for what cannot be
            stored in an array of the space, or is a category out of its range.

    Raises:
        ValueError: Keys, shape, dtype or values do not fit the space. The message names the key of a Dict.
    """
    where = f"{name}: {path} of {method}"
    if isinstance(space, spaces.Dict):
        if not isinstance(obs, dict):
            raise ValueError(f"{where} is {describe(obs)}, expected a dict with keys {list(space.spaces)}")
        if not obs.keys() >= space.spaces.keys() or (hints is not None and len(obs) > len(space.spaces)):
            raise ValueError(f"{where} has keys {sorted(obs)}, its space has {sorted(space.spaces)}")
        for key, inner in space.spaces.items():
            check_observation(name, method, f"{path}[{key!r}]", inner, obs[key], hints)
    elif isinstance(space, spaces.Discrete):
        if not isinstance(obs, int | np.integer) and not (isinstance(obs, np.ndarray) and obs.shape == ()):
            raise ValueError(f"{where} is {describe(obs)}, expected an integer")
        if not space.contains(obs):
            raise ValueError(f"{where} is {obs}, expected {space.start} to {space.start + space.n - 1}")
    else:
        _check_array(where, space, obs, hints)


def _check_array(where: str, space: spaces.Space, obs: Any, hints: list[str] | None) -> None:
    if hints is None:
        obs = _as_array(obs)
    if not isinstance(obs, np.ndarray | np.generic):
        raise ValueError(f"{where} is {describe(obs)}, expected a numpy array of shape {space.shape}")
    if obs.shape != space.shape:
        raise ValueError(f"{where} has shape {obs.shape}, its space has {space.shape}")
    if space.dtype is not None and not np.can_cast(
        obs.dtype, space.dtype, "same_kind" if hints is None else "safe"
    ):
        raise ValueError(
            f"{where} has dtype {obs.dtype}, its space has {space.dtype}; return obs.astype(...)"
        )
    if hints is None and isinstance(space, spaces.Box):
        return
    if np.issubdtype(obs.dtype, np.floating) and not np.isfinite(obs).all():
        raise ValueError(f"{where} has {np.count_nonzero(~np.isfinite(obs))} values that are NaN or infinite")
    if space.contains(obs.astype(space.dtype, copy=False)):
        return
    if not isinstance(space, spaces.Box):
        raise ValueError(f"{where} is {obs.tolist()}, outside of {space}")
    if hints is not None:
        what = where.partition(": ")[2]
        hints.append(f"{what} leaves the bounds of its space; widen them or clip the values")


def _as_array(obs: Any) -> Any:
    """Return what numpy makes of ``obs``; ``obs`` itself where that is no array of numbers."""
    try:
        array = np.asarray(obs)
    except ValueError:  # lists of different lengths
        return obs
    return obs if array.dtype == object else array


def describe(value: Any) -> str:
    """Say in words what a value is."""
    if isinstance(value, np.ndarray):
        return f"a numpy array of shape {value.shape}"
    if isinstance(value, tuple):
        return f"a tuple of {len(value)} values"
    if value is None:
        return "None"
    return f"a {type(value).__name__}"
