"""Arguments of classes declare beside them what they may be, and are checked in one place.

``clip: Annotated[float, Range(above=0, at_most=1)] = 0.2`` stands in a constructor's signature. The type, the
range, the message about a wrong value, and the help of the command line all come from this declaration.
"""

from __future__ import annotations

import functools
import inspect
import math
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeAlias,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from lit_rl.checks import nearest

_LARGEST = 2**63 - 1
"""No whole number is greater: torch and numpy count in 64 bits."""
_LARGEST_FLOAT = 3.4e38
"""No other number is greater: networks compute in 32 bits."""
_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_SHOWN = reprlib.Repr()
_SHOWN.maxlist = _SHOWN.maxtuple = _SHOWN.maxdict = 4
_SHOWN.maxlevel, _SHOWN.maxlong, _SHOWN.maxstring, _SHOWN.maxother = 3, 30, 60, 60


@dataclass(frozen=True)
class Range:
    """A range of numbers, declared beside an argument; infinity is usually outside of it.

    Args:
        above: The number must be greater.
        at_least: The number must be this or greater.
        below: The number must be smaller.
        at_most: The number must be this or smaller.
        may_be_infinite: Whether infinity counts as a number, as in a bound that is no bound.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    may_be_infinite: bool = False

    def holds(self, value: float) -> bool:
        """Tell whether ``value`` lies inside; NaN never does."""
        return (
            (is_finite(value) or (self.may_be_infinite and value == value))
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    @property
    def is_bounded(self) -> bool:
        """Whether there is a limit, beside that the number is finite."""
        return any(limit is not None for limit in (self.above, self.at_least, self.below, self.at_most))

    def describe(self, name: str) -> str:
        """Write the range as in mathematics: ``0 < clip <= 1``."""
        low = f"{self.above} < " if self.above is not None else ""
        low = f"{self.at_least} <= " if self.at_least is not None else low
        high = f" < {self.below}" if self.below is not None else ""
        high = f" <= {self.at_most}" if self.at_most is not None else high
        if low and not high:
            return f"{name} {'>' if self.at_least is None else '>='} {low.split()[0]}"
        return f"{low}{name}{high}" if low or high else f"{name} finite"


Finite: TypeAlias = Annotated[float, Range()]
Bound: TypeAlias = Annotated[float, Range(may_be_infinite=True)]
Positive: TypeAlias = Annotated[float, Range(above=0)]
NonNegative: TypeAlias = Annotated[float, Range(at_least=0)]
Share: TypeAlias = Annotated[float, Range(above=0, at_most=1)]
Fraction: TypeAlias = Annotated[float, Range(at_least=0, at_most=1)]
Count: TypeAlias = Annotated[int, Range(at_least=1)]
Number: TypeAlias = Annotated[int, Range(at_least=0)]
Seed: TypeAlias = Annotated[int, Range(at_least=0, at_most=2**32 - 1)]
RenderMode: TypeAlias = Literal["rgb_array"] | None
Port: TypeAlias = Annotated[int, Range(at_least=0, at_most=65_535)]
SmallCount: TypeAlias = Annotated[int, Range(at_least=1, at_most=1000)]
Steps: TypeAlias = Annotated[int, Range(at_least=1, at_most=10**8)]
Copies: TypeAlias = Annotated[int, Range(at_least=1, at_most=2**20)]
EpisodeCount: TypeAlias = Annotated[int, Range(at_least=1, at_most=10**6)]
Seconds: TypeAlias = Annotated[float, Range(above=0, at_most=10**8)]
Timeout: TypeAlias = Annotated[float, Range(at_least=0, at_most=10**8)]
Interval: TypeAlias = Annotated[float, Range(at_least=0, may_be_infinite=True)]
Width: TypeAlias = Annotated[int, Range(at_least=1, at_most=2**14)]
"""Units of a layer; more would take gigabytes, and minutes, before anything is learned."""


def check_arguments(owner: type, given: Mapping[str, Any]) -> None:
    """Refuse constructor arguments that are not of the type, or not within the range, declared beside them.

    Args:
        owner: The class whose constructor declares them.
        given: Values by name, such as ``locals()`` in the first line of that constructor. Names that are not
            among its arguments are left alone.

    Raises:
        ValueError: The first value outside its range, in one line: ``PPO: clip = 0, expected 0 < clip <= 1``.
        TypeError: A value is of another type, or what should make a network or the like cannot be called.
    """
    for name, hint in declared(owner).items():
        if name in given:
            misfit = _misfit(name, plain(given[name]), hint)
            if misfit is not None:
                line = f"{owner.__name__}: {misfit.name} = {shown(misfit.value)}, expected {misfit.expected}"
                raise (ValueError if misfit.is_type_right else TypeError)(line)


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a type and within the ranges declared in it."""
    return _misfit("value", plain(value), hint) is None


def expectation(name: str, hint: Any) -> str:
    """Say which values a type and the ranges in it allow, in the words in which others are refused.

    Lists say what their entries must be. The text is empty where a type says nothing that is checked.
    """
    if get_origin(hint) in (Union, UnionType):
        parts = [expectation(name, part) for part in get_args(hint)]
        return ", or ".join(dict.fromkeys(parts)) if all(parts) else ""
    if get_origin(hint) in (list, tuple, Sequence) and get_args(hint):
        entries = dict.fromkeys(expectation(name, part) for part in get_args(hint) if part is not Ellipsis)
        length = (
            ""
            if get_origin(hint) is not tuple or Ellipsis in get_args(hint)
            else f" of {len(get_args(hint))}"
        )
        return f"a list{length}" + f", each entry {' and '.join(entries)}" * all(entries)
    misfit = _misfit(name, object(), hint)
    return misfit.expected if misfit is not None else ""


def shown(value: Any) -> str:
    """Show a value of any size in a message of one line."""
    return " ".join(_SHOWN.repr(value).split())


def plain(value: Any) -> Any:
    """Return numbers and arrays of numpy as Python's own, at any depth of lists, tuples and mappings."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(item) for item in value)
    return value


def is_finite(value: float) -> bool:
    """Tell whether a number is neither NaN nor infinite, nor too large for tensors."""
    return abs(value) <= (_LARGEST if isinstance(value, Integral) else _LARGEST_FLOAT)


def constructors(found: type) -> Iterator[Callable[..., None]]:
    """Walk through the constructors from a class to the base that hands no further arguments on."""
    for base in inspect.getmro(found):
        constructor = vars(base).get("__init__")
        if constructor is None or base is object:
            continue
        yield constructor
        parameters = inspect.signature(constructor).parameters.values()
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            return


@functools.cache
def declared(owner: type) -> dict[str, Any]:
    """Return the types of the arguments by name, those included that a constructor hands on to its base."""
    hints: dict[str, Any] = {}
    for constructor in constructors(owner):
        parameters = inspect.signature(constructor).parameters
        of_this = get_type_hints(constructor, include_extras=True)
        named = {name for name, parameter in parameters.items() if parameter.kind not in _ANY_NUMBER}
        hints = {name: hint for name, hint in of_this.items() if name in named} | hints
    return hints


def alternatives(hint: Any) -> Iterator[Any]:
    """Yield the types of which a value may be one: those of a union, without what stands beside them."""
    if get_origin(hint) is Annotated:
        yield from alternatives(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from alternatives(part)
    else:
        yield hint


def without_range(hint: Any) -> bool:
    """Tell whether a type holds numbers, at any depth, for which no range is declared."""
    if get_origin(hint) is Annotated and any(isinstance(extra, Range) for extra in get_args(hint)[1:]):
        return False
    if get_origin(hint) is Literal:
        return False
    return hint in (int, float) or any(without_range(part) for part in get_args(hint))


class _Misfit(NamedTuple):
    """One value that is not what was declared."""

    name: str
    value: Any
    expected: str
    is_type_right: bool


def _misfit(name: str, value: Any, hint: Any, ranges: tuple[Range, ...] = ()) -> _Misfit | None:
    """Compare a value with a type; None where it fits, or where the type says nothing that can be checked."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _misfit(name, value, parts[0], tuple(part for part in parts[1:] if isinstance(part, Range)))
    if origin in (Union, UnionType):
        return _misfit_of_union(name, value, parts, ranges)
    if hint in (int, float):
        return _misfit_of_number(name, value, hint, ranges)
    if origin is Literal:
        known = [str(part) for part in parts]
        hinted = nearest(str(value), known) if isinstance(value, str) else ""
        is_known = any(type(value) is type(part) and value == part for part in parts)
        return None if is_known else _Misfit(name, value, _one_of(known) + f".{hinted}" * bool(hinted), True)
    if hint in _WORDS:
        fits = isinstance(value, hint)
        return None if fits else _Misfit(name, value, _WORDS[hint], False)
    if (origin or hint) in (list, tuple, Sequence):
        return _misfit_of_list(name, value, origin or hint, parts)
    if (origin or hint) in (dict, Mapping):
        return _misfit_of_mapping(name, value, parts)
    if origin is Callable or hint is Callable:
        made = getattr(parts[-1], "__name__", str(parts[-1])) if parts else "value"
        return None if callable(value) else _Misfit(name, value, _maker(made), False)
    return None


_WORDS: dict[Any, str] = {bool: "true or false", str: "text", NoneType: "null"}


def _one_of(known: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(known[:-1]), known[-1])))


def _maker(made: str) -> str:
    return "a class or function" + ("" if made == "Any" else f" that makes a {made}")


def _misfit_of_union(
    name: str, value: Any, parts: Sequence[Any], ranges: tuple[Range, ...]
) -> _Misfit | None:
    misfits = [_misfit(name, value, part, ranges) for part in parts]
    found = [misfit for misfit in misfits if misfit is not None]
    if len(found) < len(parts):
        return None
    deeper = [misfit for misfit in found if misfit.name != name]
    if len(deeper) == 1:  # the value is a list, or the like, as it should be, but an entry of it is wrong
        return deeper[0]
    expected = ", or ".join(dict.fromkeys(misfit.expected for misfit in found))
    return _Misfit(name, value, expected, any(misfit.is_type_right for misfit in found))


def _misfit_of_number(name: str, value: Any, kind: type, ranges: tuple[Range, ...]) -> _Misfit | None:
    bounds = " and ".join(each.describe(name) for each in ranges if each.is_bounded)
    word = "whole number" if kind is int else "number"
    with_bounds = f" with {bounds}" if bounds else ""
    kinds: tuple[type, ...] = (Integral,) if kind is int else (Real,)
    if isinstance(value, bool) or not issubclass(type(value), kinds):
        return _Misfit(name, value, f"a {word}{with_bounds}", False)
    number = cast("float", value)
    if all(each.holds(number) for each in ranges or (Range(),)):
        return None
    if value != value and bounds:
        return _Misfit(name, value, bounds, True)
    if not is_finite(value):
        is_large = kind is float and math.isfinite(value)
        limit = "a whole number of 64 bits" if kind is int else f"a finite number{' of 32 bits' * is_large}"
        return _Misfit(name, value, f"{limit}{with_bounds}", True)
    return _Misfit(name, value, bounds, True)


def _misfit_of_list(name: str, value: Any, kind: Any, parts: Sequence[Any]) -> _Misfit | None:
    is_fixed = kind is tuple and bool(parts) and parts[-1] is not Ellipsis
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return _Misfit(name, value, f"a list of {len(parts)}" if is_fixed else "a list", False)
    if is_fixed and len(value) != len(parts):
        return _Misfit(name, value, f"a list of {len(parts)}", True)
    hints = parts if is_fixed else [parts[0] if parts else Any] * len(value)
    entries = (_misfit(f"{name}[{i}]", entry, hints[i]) for i, entry in enumerate(value))
    return next(filter(None, entries), None)


def _misfit_of_mapping(name: str, value: Any, parts: Sequence[Any]) -> _Misfit | None:
    if not isinstance(value, Mapping):
        return _Misfit(name, value, "keys with values", False)
    entries = (_misfit(f"{name}[{key!r}]", entry, parts[1]) for key, entry in value.items() if parts)
    return next(filter(None, entries), None)
