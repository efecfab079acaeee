"""What a data module was made with, in plain types: checkpoints carry it, and resumed runs are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

KEY = "made_with"
"""Key under which the state of a data module holds what it was made with."""

ENVIRONMENT = ("env", "env_kwargs", "wrappers")
"""Arguments that decide what is rewarded and what follows an action: with others it is another task."""


class Difference(NamedTuple):
    """An argument, or a part of one, that is not as it was.

    Attributes:
        name: Dotted name, as on the command line: ``env_kwargs.gravity``, ``wrappers.0.class_path``.
        now: Its value; None where there is none.
        before: The value that it had; None where there was none.
    """

    name: str
    now: Any
    before: Any

    @property
    def is_of_environment(self) -> bool:
        """Whether it makes another environment."""
        return self.name.partition(".")[0] in ENVIRONMENT


def describe(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a data module by its class and its arguments, in plain types.

    Args:
        cls: Class of the data module.
        arguments: Names and values, such as from ``locals()`` of a constructor. Functions, classes and other
            objects are described by their names.
    """
    given = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
    return {"class_path": _name(cls), "init_args": {name: _plain(value) for name, value in given.items()}}


def of_checkpoint(content: Mapping[str, Any]) -> dict[str, Any] | None:
    """Find what the data module of a checkpoint was made with; older checkpoints do not say and give None."""
    states = (value for value in content.values() if isinstance(value, dict))
    found = (state[KEY] for state in states if isinstance(state.get(KEY), dict))
    return next(found, None)


def differences(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[Difference]:
    """Compare two data modules as :func:`describe` describes them, or a configuration does.

    Arguments that only one of them has (those of another class, or of another version of lit_rl) are not
    compared.
    """
    new, old = _arguments(now), _arguments(before)
    both = [name for name in new if name in old]
    now_is = {path: leaf for name in both for path, leaf in _leaves(name, new[name])}
    was = {path: leaf for name in both for path, leaf in _leaves(name, old[name])}
    return [
        Difference(path, now_is.get(path), was.get(path))
        for path in {**now_is, **was}
        if now_is.get(path) != was.get(path)
    ]


def _arguments(made_with: Mapping[str, Any]) -> dict[str, Any]:
    arguments = made_with.get("init_args")
    return {name: _plain(value) for name, value in arguments.items()} if isinstance(arguments, dict) else {}


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a value by their dotted names; there is none where a value is None or empty."""
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        value = {str(i): item for i, item in enumerate(value)}
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(f"{name}.{key}", item)
    elif value not in (None, []):
        yield name, value


def _plain(value: Any) -> Any:
    """Describe any value in plain types; a class and its arguments look as in YAML."""
    if isinstance(value, Mapping):
        given = {str(key): _plain(item) for key, item in value.items()}
        if "class_path" not in given:
            return given
        path, inner = given.pop("class_path"), given.pop("init_args", None)
        return {"class_path": path, "init_args": {**(inner if isinstance(inner, dict) else {}), **given}}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, partial):
        positional = {str(i): item for i, item in enumerate(value.args)}
        function = _plain(value.func)
        path = function["class_path"] if isinstance(function, dict) else function
        return {"class_path": path, "init_args": _plain({**positional, **value.keywords})}
    if hasattr(value, "__qualname__"):
        return {"class_path": _name(value), "init_args": {}}
    if hasattr(value, "tolist"):  # an array, or a number of numpy
        return _plain(value.tolist())
    return _name(type(value))


def _name(named: Any) -> str:
    return f"{named.__module__}.{named.__qualname__}"
