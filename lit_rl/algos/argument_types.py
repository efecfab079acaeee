"""What an argument takes, read from its type: a class and in what form, or plain data such as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import PurePath
from types import NoneType
from typing import Any, Literal, TypeAlias, get_args, get_origin, get_type_hints

from lit_rl.arguments import alternatives, constructors

NUMBERS = (int, float, bool, NoneType)
LISTS = (list, tuple, set, frozenset, Sequence, AbstractSet)
DICTS = (dict, Mapping)

Form: TypeAlias = Literal["maker", "instance", "class"]
"""What an argument wants of a class: a maker of instances, an instance, or the class itself."""


def argument_hints(found: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the arguments of a class or function, as far as they can be known."""
    hints: dict[str, Any] = {}
    try:
        for owner in constructors(found) if isinstance(found, type) else (found,):
            hints = get_type_hints(owner) | hints
    except (AttributeError, NameError, TypeError, ValueError):
        return hints  # types may be there for type checkers only, and a builtin has none
    return hints


def wanted_class(hint: Any) -> tuple[type, Form] | None:
    """Return the base of the classes that an argument takes, and their form; None where it takes none.

    The base is ``object`` where any class would do.
    """
    for kind in alternatives(hint):
        origin = get_origin(kind) or kind
        if origin is Callable:
            made = get_args(kind)[-1] if get_args(kind) else Any
            return next(filter(_is_class, alternatives(made)), object), "maker"
        if origin is type:
            (base,) = get_args(kind) or (object,)
            return (base if _is_class(base) else object), "class"
        if _is_class(origin):
            return origin, "instance"
    return None


def takes_text(hint: Any, text: str) -> bool:
    """Tell whether an argument takes this text, perhaps as the name of an enum's member or as a path."""
    return any(_takes_text(kind, text) for kind in alternatives(hint))


def takes_no_class(hint: Any) -> bool:
    """Tell whether a type is known and takes plain data only, so that text names no class to a parser."""
    return not any(_may_name_classes(kind) for kind in alternatives(hint))


def from_text(hint: Any, text: str) -> Any:
    """Turn text into what the argument takes: itself, the member of an enum, a path."""
    kinds = list(alternatives(hint))
    for kind in kinds if str not in kinds else []:
        if isinstance(kind, type) and issubclass(kind, Enum) and text in kind.__members__:
            return kind[text]
        if isinstance(kind, type) and issubclass(kind, PurePath):
            return kind(text)
    return text


def _is_class(kind: Any) -> bool:
    return isinstance(kind, type) and not _is_plain(kind)


def _is_plain(kind: Any) -> bool:
    """Tell whether a type is plain data (numbers, text, lists, dicts), or says nothing."""
    if kind in (Any, object, str, *NUMBERS, *LISTS, *DICTS):
        return True
    return isinstance(kind, type) and issubclass(kind, Enum | PurePath)


def _takes_text(kind: Any, text: str) -> bool:
    if get_origin(kind) is Literal:
        return text in get_args(kind)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return text in kind.__members__
    return kind is str or (isinstance(kind, type) and issubclass(kind, PurePath))


def _may_name_classes(kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return False
    origin = get_origin(kind) or kind
    if origin in LISTS:
        inner = [part for part in get_args(kind) if part is not Ellipsis] or [Any]
        return any(_may_name_classes(choice) for part in inner for choice in alternatives(part))
    return origin in (Any, object, *DICTS) or not _is_plain(origin)
