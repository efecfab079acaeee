"""All that an object of pyribs remembers, as tensors and plain types, so that checkpoints need no pickle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

_SCALARS = (bool, int, float, str, type(None))


def get_plain_state(owner: Any) -> dict[str, Any]:
    """Return arrays, numbers and random generators of ``owner`` and of all objects that it has.

    What is neither (a function, a class) belongs to the code, and is left out. An object that is met twice is
    saved once.
    """
    return _attributes(owner, {id(owner)})


def set_plain_state(owner: Any, state: dict[str, Any]) -> None:
    """Let ``owner`` continue from a state that :func:`get_plain_state` returned, bit for bit.

    ``owner`` must have been made with the arguments of the object that was saved: the state holds numbers
    only, and never decides which class an object has.

    Raises:
        ValueError: The state has an object where ``owner`` has none, or an array of another shape or type.
    """
    _set_attributes(owner, state, type(owner).__name__)


def _attributes(owner: Any, seen: set[int]) -> dict[str, Any]:
    saved = {}
    for name, value in vars(owner).items():
        kind = _save(value, seen)
        if kind is not None:
            saved[name] = kind
    return saved


def _save(value: Any, seen: set[int]) -> dict[str, Any] | None:
    """Return ``{kind: content}``; None for what belongs to the code."""
    if isinstance(value, np.generic | np.ndarray):
        if value.dtype == object:
            return None
        # a copy keeps writing to the array from changing what was saved
        return {"scalar" if isinstance(value, np.generic) else "array": torch.from_numpy(np.array(value))}
    if isinstance(value, _SCALARS):
        return {"plain": value}
    if isinstance(value, np.random.Generator):
        return {"generator": value.bit_generator.state}
    if isinstance(value, dict):
        kept = {key: _save(item, seen) for key, item in value.items() if isinstance(key, str)}
        return {"dict": {key: item for key, item in kept.items() if item is not None}}
    if isinstance(value, list | tuple):
        return {"list": [_save(item, seen) for item in value]}
    if not _is_of_ribs(value) or id(value) in seen:
        return None
    seen.add(id(value))
    return {"object": _attributes(value, seen)}


def _is_of_ribs(value: Any) -> bool:
    """Tell whether ``value`` is an object of a class of pyribs; all else is left alone."""
    return type(value).__module__.split(".")[0] == "ribs" and hasattr(value, "__dict__")


def _set_attributes(owner: Any, state: dict[str, Any], path: str) -> None:
    for name, saved in state.items():
        before = vars(owner).get(name)
        object.__setattr__(owner, name, _restore(before, saved, f"{path}.{name}"))


def _restore(before: Any, saved: dict[str, Any] | None, path: str) -> Any:
    if saved is None:
        return before
    ((kind, content),) = saved.items()
    if kind == "object":
        if not _is_of_ribs(before):
            raise ValueError(f"the saved state has an object at {path}, where there is {before!r:.40} now")
        _set_attributes(before, content, path)
        return before
    if kind == "generator":
        before.bit_generator.state = content
        return before
    if kind == "dict":
        old = before if isinstance(before, dict) else {}
        return {**old, **{k: _restore(old.get(k), item, f"{path}[{k!r}]") for k, item in content.items()}}
    if kind == "list":
        items = before if isinstance(before, list | tuple) else [None] * len(content)
        if len(items) != len(content):
            raise ValueError(
                f"the saved state has {len(content)} items at {path}, there are {len(items)} now"
            )
        new = [
            _restore(old, item, f"{path}[{i}]")
            for i, (old, item) in enumerate(zip(items, content, strict=True))
        ]
        return tuple(new) if isinstance(before, tuple) else new
    if kind in ("array", "scalar"):
        array = content.numpy().copy()
        if isinstance(before, np.ndarray) and (before.shape, before.dtype) != (array.shape, array.dtype):
            raise ValueError(
                f"the saved state has {array.dtype}{array.shape} at {path}, where there is "
                f"{before.dtype}{before.shape} now"
            )
        return array if kind == "array" else array[()]
    return content
