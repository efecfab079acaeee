"""Environments and wrappers named in YAML by ``class_path``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Any


def factory(source: str | Mapping[str, Any] | Callable[..., Any], argument: str) -> Any:
    """Find what a mapping or an entry point names; anything else is returned as it is.

    Args:
        source: ``{"class_path": "my_package.MyEnv", "init_args": {...}}``, an entry point
            (``"mpe2.simple_spread_v3:parallel_env"``), an id, or a callable. ``"package:Id-v0"`` is an id of
            Gymnasium, which imports ``package`` first. Other keys of a mapping count as ``init_args``: so
            jsonargparse delivers ``--data.env.init_args.name value``.
        argument: Argument in which it was given, for messages.

    Returns:
        The id, or a callable; ``init_args`` are its keyword arguments.

    Raises:
        ValueError: The mapping names nothing that can be imported and called.
    """
    if isinstance(source, str):
        return _entry_point(source) or source
    if not isinstance(source, Mapping):
        return source
    given = dict(source)
    path, init_args = given.pop("class_path", None), given.pop("init_args", None) or {}
    if not isinstance(path, str):
        raise ValueError(f"{argument} must have class_path and perhaps init_args, got {dict(source)}")
    module, _, name = path.rpartition(".")
    try:
        found = _find(module, name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{argument}.class_path {path!r} cannot be imported ({error}); write package.module.Name, and "
            "start from a directory, or install a package, that has it"
        ) from error
    if not callable(found):
        raise ValueError(f"{argument}.class_path {path!r} must be a class or function, got {found!r}")
    arguments = {**init_args, **given}
    return partial(found, **arguments) if arguments else found


def _entry_point(text: str) -> Callable[..., Any] | None:
    """Find what ``module:name`` names; None where that is an id, or nothing."""
    module, _, name = text.partition(":")
    if not name.isidentifier():
        return None
    try:
        found = _find(module, name)
    except (ImportError, AttributeError):
        return None  # Gymnasium says what is missing
    return found if callable(found) else None


def _find(module: str, name: str) -> Any:
    """Return what a module has under a name, or what stands for a module in its package.

    PettingZoo's packages have such things in the place of deprecated environments.
    """
    try:
        return getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        package, _, inside = module.rpartition(".")
        if error.name != module or not package:
            raise
        stands_for = getattr(import_module(package), inside, None)
        if stands_for is None:
            raise
        return getattr(stands_for, name)
