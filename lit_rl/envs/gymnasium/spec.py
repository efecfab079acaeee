"""Describe Gymnasium spaces by an ``EnvSpec``, and convert arrays between both sides.

The library receives float32 for boxes of an observation (uint8 images stay uint8), and int64 counted from 0
for discrete values and for the key ``action_mask``. An environment receives an action in its own dtype, boxes
clipped to their bounds, discrete values counted from the ``start`` of the space.

Axes: N environments.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces

from lit_rl.types import ACTION_MASK, ActionSpec, EnvSpec, LeafSpec, NestedArray


def env_spec(name: str, observation_space: spaces.Space, action_space: spaces.Space) -> EnvSpec:
    """Describe an environment of one agent by its (unbatched) spaces.

    Raises:
        ValueError: A space has no counterpart here, or the action mask does not fit the actions.
    """
    action = action_spec(name, action_space)
    observation = observation_spec(name, observation_space)
    if isinstance(observation, dict) and ACTION_MASK in observation:
        choices = sum(action.categories)
        shape = getattr(observation[ACTION_MASK], "shape", None)  # None: a Dict
        if action.kind == "box" or shape != [choices]:
            raise ValueError(
                f"{name}: observation[{ACTION_MASK!r}] must have one entry per choice of a discrete action, "
                f"here shape [{choices}]; its shape is {shape}"
            )
    return EnvSpec(name, observation, action)


def action_spec(name: str, space: spaces.Space) -> ActionSpec:
    """Describe the action of one agent; ``name`` is the environment's, for the message.

    Raises:
        ValueError: The space is neither discrete nor a box of floats.
    """
    dtype = str(space.dtype)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating):
        low, high = _floats(space.low), _floats(space.high)
        return ActionSpec("box", list(space.shape), low=low, high=high, dtype=dtype)
    if isinstance(space, spaces.Discrete):
        return ActionSpec("discrete", categories=[int(space.n)], start=_start(space), dtype=dtype)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        shape, categories = list(space.shape), _categories(space)
        return ActionSpec("multi_discrete", shape, categories, start=_start(space), dtype=dtype)
    raise ValueError(_unsupported(name, "action", space, "float Box, Discrete, MultiDiscrete or MultiBinary"))


def observation_spec(name: str, space: spaces.Space, path: str = "observation") -> LeafSpec | dict[str, Any]:
    """Describe an observation; ``name`` is the environment's, ``path`` leads to ``space``, for the message.

    Raises:
        ValueError: ``space``, or one inside it, is of an unsupported kind.
    """
    if isinstance(space, spaces.Dict) and space.spaces:
        inside = _with_binary_mask(space).items()
        leaves = {key: observation_spec(name, inner, f"{path}[{key!r}]") for key, inner in inside}
        mask = leaves.get(ACTION_MASK)
        if isinstance(mask, LeafSpec):
            leaves[ACTION_MASK] = replace(mask, space_dtype=str(space[ACTION_MASK].dtype))
        return leaves
    if isinstance(space, spaces.Box):
        return LeafSpec(list(space.shape), _box_dtype(space), space_dtype=str(space.dtype))
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        shape = list(space.shape or ())
        return LeafSpec(shape, "int64", _categories(space), _start(space), str(space.dtype))
    known = "Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these"
    raise ValueError(_unsupported(name, path, space, known))


def observation_caster(space: spaces.Space) -> Callable[[Any], NestedArray]:
    """Return what turns a batch of observations into new arrays in the dtypes of the library."""
    if isinstance(space, spaces.Dict):
        casters = [(key, observation_caster(inner)) for key, inner in _with_binary_mask(space).items()]
        return lambda obs: {key: cast(obs[key]) for key, cast in casters}
    dtype = np.dtype(_box_dtype(space) if isinstance(space, spaces.Box) else "int64")
    start = getattr(space, "start", 0)
    if np.any(start):
        return lambda obs: np.array(obs, dtype) - start
    return lambda obs: np.array(obs, dtype, order="C")


def action_caster(space: spaces.Space) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns actions ``(N, ...)`` of a policy into those that the environments take.

    They are new arrays: an environment may write into its action, and what the policy did is recorded.
    """
    dtype = space.dtype
    if isinstance(space, spaces.Box):
        low, high = space.low, space.high
        if np.isinf(low).all() and np.isinf(high).all():
            return lambda action: action.astype(dtype)
        return lambda action: np.minimum(np.maximum(action, low), high).astype(dtype, copy=False)
    start = getattr(space, "start", 0)
    if np.any(start):
        return lambda action: (action + start).astype(dtype, copy=False)
    return lambda action: action.astype(dtype)


def stack_rows(rows: Sequence[Any]) -> Any:
    """Turn a list of (nested) observations into lists of arrays, to be cast like a batch."""
    if isinstance(rows[0], dict):
        return {key: stack_rows([row[key] for row in rows]) for key in rows[0]}
    return rows


def take_rows(obs: NestedArray, mask: np.ndarray) -> NestedArray:
    """Copy the rows of ``obs`` ``(N, ...)`` where ``mask`` ``(N,)`` is True."""
    if isinstance(obs, dict):
        return {key: take_rows(value, mask) for key, value in obs.items()}
    return obs[mask]


def _with_binary_mask(space: spaces.Dict) -> dict[str, spaces.Space]:
    """Return the spaces inside; an action mask that is a box of zeros and ones becomes binary."""
    mask = space.spaces.get(ACTION_MASK)
    if isinstance(mask, spaces.Box) and len(mask.shape) == 1:
        return {**space.spaces, ACTION_MASK: spaces.MultiBinary(mask.shape[0])}
    return dict(space.spaces)


def _box_dtype(space: spaces.Box) -> str:
    return "uint8" if space.dtype == np.uint8 else "float32"


def _start(space: spaces.Space) -> list[int]:
    """Return the smallest value of each entry, flat; an empty list where all of them are 0."""
    start = np.ravel(getattr(space, "start", 0)).tolist()
    return start if any(start) else []


def _categories(space: spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary) -> list[int]:
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    if isinstance(space, spaces.MultiDiscrete):
        return space.nvec.ravel().tolist()
    return [2] * int(np.prod(space.shape))


def _floats(bound: np.ndarray) -> list[float]:
    return bound.astype(np.float64).ravel().tolist()


def _unsupported(name: str, path: str, space: spaces.Space, known: str) -> str:
    got = " ".join(str(space).split())  # on one line
    return f"{name}: {path} space must be {known}, got {got}; convert it with a wrapper"
