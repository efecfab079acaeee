"""States of environments as what a checkpoint may hold: arrays, tuples and deques become plain, and back.

An array becomes ``{"numpy": tensor}``. A process that does without torch, such as a worker, leaves the array
as it is; the trainer makes tensors of them by :func:`as_tensors`.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np


def pack(value: Any) -> Any:
    """Plain types and tensors stay; arrays and numpy scalars become marked tensors, tuples marked lists.

    Raises:
        TypeError: Something inside is of another kind.
    """
    if isinstance(value, np.ndarray | np.generic):
        return {"numpy": _as_tensor(np.array(value))}  # a scalar has no dimension
    if isinstance(value, tuple):
        return {"tuple": [pack(item) for item in value]}
    if isinstance(value, list | deque):
        return [pack(item) for item in value]
    if isinstance(value, dict):
        return {key: pack(item) for key, item in value.items()}
    torch = sys.modules.get("torch")
    plain = (bool, int, float, str) if torch is None else (bool, int, float, str, torch.Tensor)
    if value is None or isinstance(value, plain):
        return value
    raise TypeError(f"a state may hold arrays, numbers, strings, lists and dicts; got {type(value).__name__}")


def unpack(value: Any) -> Any:
    """Turn back what :func:`pack` made, except that a deque becomes a list."""
    if isinstance(value, list):
        return [unpack(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"numpy"}:
        array = _as_array(value["numpy"]).copy()
        return array if array.ndim else array[()]
    if value.keys() == {"tuple"}:
        return tuple(unpack(item) for item in value["tuple"])
    return {key: unpack(item) for key, item in value.items()}


def as_tensors(state: Any) -> Any:
    """Make tensors of the arrays that a process without torch has packed."""
    return _map_packed(_as_tensor, state)


def as_arrays(state: Any) -> Any:
    """Make arrays of packed tensors, for a process without torch; other tensors stay."""
    return _map_packed(_as_array, state)


def _as_tensor(array: Any) -> Any:
    torch = sys.modules.get("torch")
    return torch.from_numpy(array) if torch is not None and isinstance(array, np.ndarray) else array


def _as_array(packed: Any) -> np.ndarray:
    return packed if isinstance(packed, np.ndarray) else packed.numpy()


def _map_packed(fn: Callable[[Any], Any], state: Any) -> Any:
    if isinstance(state, list):
        return [_map_packed(fn, item) for item in state]
    if not isinstance(state, dict):
        return state
    if state.keys() == {"numpy"}:
        return {"numpy": fn(state["numpy"])}
    return {key: _map_packed(fn, item) for key, item in state.items()}
