"""Arguments of a class, as its constructors declare them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Annotated, Any, Protocol, get_args, get_origin, get_type_hints, runtime_checkable

from lit_rl.arguments import constructors


@runtime_checkable
class Describes(Protocol):
    """What stands beside a type in ``Annotated`` and can say which values are allowed, as a range does."""

    def describe(self, name: str) -> str:
        """Say which values the argument ``name`` may have: ``0 < clip <= 1``."""
        ...


def argument_names(found: type) -> set[str]:
    """Name what the constructor accepts, and what it hands on to a base by ``**kwargs``."""
    return {name for constructor in constructors(found) for name in inspect.signature(constructor).parameters}


def argument_ranges(found: type) -> dict[str, str]:
    """Say which values the arguments may have that are declared with a range."""
    described: dict[str, str] = {}
    for constructor in constructors(found):
        try:
            hints = get_type_hints(constructor, include_extras=True)
        except (NameError, TypeError):  # a class of the user's own may name types for type checkers only
            continue
        for name, hint in hints.items():
            ranges = [extra.describe(name) for extra in _extras(hint) if isinstance(extra, Describes)]
            if ranges:
                described.setdefault(name, " and ".join(ranges))
    return described


def _extras(hint: Any) -> Iterator[Any]:
    """Find whatever stands beside the types within ``hint``, as in ``Annotated[float, extra] | None``."""
    if get_origin(hint) is Annotated:
        yield from hint.__metadata__
    for part in get_args(hint):
        yield from _extras(part)
