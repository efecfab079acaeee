"""States of environments as what a checkpoint may hold: arrays, tuples and deques become plain, and back.

An array becomes ``{"numpy": tensor}``. A process that does without torch, such as a worker, leaves the array
as it is; the trainer makes tensors of them by :func:`as_tensors`.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

_log = logging.getLogger("lit_rl")
_warned_of: set[str] = set()

_PLAIN = (type(None), bool, int, float, str)
"""Types that checkpoints hold as they are; a subclass, such as an enumeration, would need its class."""


def pack(value: Any) -> Any:
    """Plain types and tensors stay; arrays and numpy scalars become marked tensors, tuples marked lists.

    Raises:
        TypeError: Something inside is of another kind.
    """
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return {"numpy": _as_tensor(np.array(value))}  # a scalar has no dimension
    if isinstance(value, tuple):
        return {"tuple": [pack(item) for item in value]}
    if isinstance(value, list | deque):
        return [pack(item) for item in value]
    if isinstance(value, dict) and all(type(key) in _PLAIN for key in value):
        return {key: pack(item) for key, item in value.items()}
    if type(value) in _PLAIN or _is_tensor(value):
        return value
    got = f"array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    raise TypeError(f"a state may hold arrays, numbers, strings, lists and dicts; got {got}")


def packed_or_none(state: Any, owner: str) -> Any:
    """Return what :func:`pack` makes of a user's state; None, with one warning, where it is refused."""
    try:
        return pack(state)
    except TypeError as error:
        _warn_once(owner, str(error))
        return None


def plain_or_none(state: Any, owner: str) -> Any:
    """Return a state of tensors and plain types as it is; None, with one warning, where it holds others."""
    got = _first_foreign(state)
    if got is not None:
        _warn_once(owner, f"a state may hold tensors, numbers, strings, lists and dicts; got {got}")
        return None
    return state


def _warn_once(owner: str, why: str) -> None:
    """Warn that episodes of ``owner`` are not resumed: an object in a checkpoint would be code, not data."""
    if owner not in _warned_of:
        _warned_of.add(owner)
        _log.warning("%s cannot save its state, so a resumed run begins new episodes: %s", owner, why)


def _first_foreign(value: Any) -> str | None:
    """Name the type of the first thing inside that a checkpoint cannot hold."""
    inside: Iterable[Any] = ()
    if type(value) is dict:
        inside = () if value.keys() == {"numpy"} else (*value.keys(), *value.values())
    elif type(value) in (list, tuple):
        inside = value
    elif not (type(value) in _PLAIN or _is_tensor(value)):
        return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return next((got for item in inside if (got := _first_foreign(item)) is not None), None)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


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
