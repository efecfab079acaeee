"""Functions over trees: observations and carries are tensors, or nested dicts of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


def map_nested(fn: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply ``fn`` to every leaf of ``tree`` and the leaves at its place in ``others``; keep the dicts."""
    if isinstance(tree, dict):
        return {key: map_nested(fn, value, *(other[key] for other in others)) for key, value in tree.items()}
    return fn(tree, *others)


def map_with_path(fn: Callable[..., Any], tree: Any, path: tuple[str, ...] = ()) -> Any:
    """Apply ``fn`` to the keys that lead to each leaf, after ``path``, and to the leaf; keep the dicts."""
    if isinstance(tree, dict):
        return {key: map_with_path(fn, value, (*path, key)) for key, value in tree.items()}
    return fn(path, tree)


def leaves(tree: Any) -> Iterator[Any]:
    """Yield the leaves of ``tree`` in the order of its keys."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from leaves(value)
    else:
        yield tree


def named_leaves(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield pairs of a path, as :func:`path_to` joins it, and a leaf; a tree that is a leaf has ``name``."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from named_leaves(value, path_to(name, key))
    else:
        yield name, tree


def path_to(path: str, key: str) -> str:
    """Append a key to a slash-separated path; its own slashes are written as in JSON pointers (RFC 6901)."""
    written = str(key).replace("~", "~0").replace("/", "~1")
    return f"{path}/{written}" if path else written


def keys_of(path: str) -> list[str]:
    """Return the keys of a path that :func:`path_to` has joined."""
    return [key.replace("~1", "/").replace("~0", "~") for key in path.split("/")]


def without_dots(path: str) -> str:
    """Write a path without dots, as names of submodules must be; no two paths become equal."""
    return path.replace(":", "~2").replace(".", ":")


def cast_floats(tree: Any, dtype: Any) -> Any:
    """Return ``tree`` with its floating-point tensors in ``dtype``; other leaves stay as they are."""
    return map_nested(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, tree)
