"""Checks of what users and other files hand over, with messages that say what was expected and what came.

The name of a tensor ends in its axes (``reward_TN``), with the letters of :data:`AXES`.
"""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:  # environments check with this file, too, and do without torch
    from torch import Tensor

AXES = {
    "A": "agent",
    "B": "sample",
    "C": "critic",
    "D": "decision",
    "E": "chosen environment",
    "F": "feature",
    "G": "ground user",
    "H": "hidden unit",
    "I": "run",
    "J": "token",
    "K": "finished episode",
    "L": "window step",
    "M": "minibatch",
    "N": "environment",
    "O": "observation feature",
    "P": "parameter",
    "Q": "peer",
    "R": "ring row",
    "S": "state feature",
    "T": "step",
    "U": "action dimension",
    "V": "member",
    "W": "token feature",
    "X": "point",
}
"""What each letter of an axis suffix counts, in the whole package. The line ``Axes: ...`` on top of a file
repeats the letters that the file uses, in the plural. A window is a part of a rollout that is looked at as
one piece: a chunk of a recurrent policy, or the steps of an n-step return. A decision holds a token for the
team and one for each agent. Chosen environments are those that a call is about, such as those that begin an
episode; a UAV serves ground users, and its peers are the other UAVs; a member is one policy of a
population; a point is one place on a curve.
"""


def check_shapes(**tensors: Tensor) -> dict[str, int]:
    """Check that every tensor has the axes its keyword names, and that each letter has one size.

    ``check_shapes(reward_TN=r, last_value_N=v)`` wants ``r`` of shape (T, N) and ``v`` of shape (N,).

    Returns:
        The size of each letter, as in ``{"T": 128, "N": 8}``.

    Raises:
        ValueError: A tensor has another number of axes, or two tensors disagree on a letter.
    """
    size: dict[str, int] = {}
    owner: dict[str, str] = {}
    for name, tensor in tensors.items():
        axes = name.rpartition("_")[2]
        if tensor.ndim != len(axes):
            raise ValueError(
                f"{name} must have the axes ({', '.join(axes)}), got shape {tuple(tensor.shape)}."
            )
        for letter, length in zip(axes, tensor.shape, strict=True):
            if letter not in size:
                size[letter], owner[letter] = length, name
            elif size[letter] != length:
                other = owner[letter]
                raise ValueError(
                    f"{name} has {letter} = {length}, but {other} has {letter} = {size[letter]}; "
                    f"their shapes are {tuple(tensor.shape)} and {tuple(tensors[other].shape)}."
                )
    return size


def check_same_shape(**tensors: Tensor) -> None:
    """Check that all tensors have one shape, so that nothing broadcasts in silence.

    Raises:
        ValueError: A tensor differs from the first one.
    """
    (first, reference), *others = tensors.items()
    for name, tensor in others:
        if tensor.shape != reference.shape:
            raise ValueError(
                f"{name} must have the shape of {first}, {tuple(reference.shape)}; got {tuple(tensor.shape)}."
            )


def check_finite(where: str, agents: Sequence[str] = (), /, **tensors: Tensor) -> None:
    """Check that no tensor holds NaN or infinity; costs one host sync for all of them together.

    Args:
        where: What was being done, the start of the message.
        agents: Names of the agents, for the message; without them it counts agents.
        tensors: Named tensors. Where a name ends in axes (``reward_TN``), the message speaks of steps and
            environments.

    Raises:
        FloatingPointError: Names the first bad tensor, its value and where in the tensor it stands.
    """
    import torch

    real = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not real:
        return
    device = next(iter(real.values())).device
    if bool(torch.stack([tensor.isfinite().all().to(device) for tensor in real.values()]).all()):
        return
    for name, tensor in real.items():
        bad = (~tensor.isfinite()).nonzero()
        if len(bad):
            index = tuple(bad[0].tolist())
            raise FloatingPointError(
                f"{where}: {name} is {tensor[index].item()}{_place(name, index, agents)}; "
                f"{len(bad)} of its {tensor.numel()} values are not finite."
            )


def _place(name: str, index: tuple[int, ...], agents: Sequence[str] = ()) -> str:
    """Put an index into words: `` at step 3, environment 5``."""
    if not index:
        return ""
    axes = name.rpartition("_")[2]
    if len(axes) != len(index) or not axes.isupper():
        return f" at index {index}"
    words = [
        f"{AXES.get(letter, letter)} {agents[i] if letter == 'A' and agents else i}"
        for letter, i in zip(axes, index, strict=True)
    ]
    return " at " + ", ".join(words)


@dataclass(frozen=True)
class Range:
    """What a number may be, declared beside an argument.

    ``clip: Annotated[float, Range(above=0, at_most=1)] = 0.2`` stands in a constructor's signature. The check
    of the value, its message and the help of the argument all come from this one declaration.

    Args:
        above: The number must be greater.
        at_least: The number must be this or greater.
        below: The number must be smaller.
        at_most: The number must be this or smaller.
    """

    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None

    def holds(self, value: float) -> bool:
        """Tell whether ``value`` lies inside; NaN never does."""
        return (
            value == value
            and (self.above is None or value > self.above)
            and (self.at_least is None or value >= self.at_least)
            and (self.below is None or value < self.below)
            and (self.at_most is None or value <= self.at_most)
        )

    def describe(self, name: str) -> str:
        """Write the range as in mathematics: ``0 < clip <= 1``."""
        low = f"{self.above} < " if self.above is not None else ""
        low = f"{self.at_least} <= " if self.at_least is not None else low
        high = f" < {self.below}" if self.below is not None else ""
        high = f" <= {self.at_most}" if self.at_most is not None else high
        if low and not high:
            return f"{name} {'>' if self.at_least is None else '>='} {low.split()[0]}"
        return f"{low}{name}{high}"


Positive: TypeAlias = Annotated[float, Range(above=0)]
NonNegative: TypeAlias = Annotated[float, Range(at_least=0)]
Share: TypeAlias = Annotated[float, Range(above=0, at_most=1)]
Count: TypeAlias = Annotated[int, Range(at_least=1)]


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


def alternatives(hint: Any) -> Iterator[Any]:
    """Yield the types of which a value may be one: those of a union, without what stands beside them."""
    if get_origin(hint) is Annotated:
        yield from alternatives(get_args(hint)[0])
    elif get_origin(hint) in (Union, UnionType):
        for part in get_args(hint):
            yield from alternatives(part)
    else:
        yield hint


def declared_ranges(owner: type) -> Iterator[tuple[str, Range, bool]]:
    """Yield name, range, and whether None is allowed, for each constructor argument that declares a range."""
    for name, hint in get_type_hints(owner.__init__, include_extras=True).items():
        for part in (hint, *get_args(hint)):  # `Positive | None` holds the declaration one level down
            if get_origin(part) is Annotated:
                allows_none = NoneType in get_args(hint) or NoneType in get_args(get_args(part)[0])
                yield from (
                    (name, item, allows_none) for item in get_args(part)[1:] if isinstance(item, Range)
                )


def declared_makers(owner: type) -> Iterator[tuple[str, str, bool]]:
    """Yield name, what is made, and whether None is allowed, for each argument that makes something else.

    ``encoder: Callable[[EnvSpec], nn.Module] | None`` makes a module.
    """
    for name, hint in get_type_hints(owner.__init__).items():
        kinds = list(alternatives(hint))
        makers = [kind for kind in kinds if get_origin(kind) is Callable]
        allows_none = NoneType in kinds
        if makers and len(makers) + allows_none == len(kinds):
            made = get_args(makers[0])[-1]
            yield name, getattr(made, "__name__", str(made)), allows_none


def check_arguments(owner: type, given: Mapping[str, Any]) -> None:
    """Refuse constructor arguments outside the ranges declared beside them, and makers that cannot be called.

    Args:
        owner: The class whose constructor declares the ranges.
        given: Values by name, such as ``locals()`` in the first line of that constructor.

    Raises:
        ValueError: The first value outside its range, in one line: ``PPO: clip = 0, expected 0 < clip <= 1``.
        TypeError: A value is no number, or what should make a network or the like cannot be called.
    """
    for name, made, allows_none in declared_makers(owner):
        if not callable(given[name]) and not (given[name] is None and allows_none):
            what = f"a class or function that makes a {made}" + (", or null" if allows_none else "")
            raise TypeError(f"{owner.__name__}: {name} = {given[name]!r}, expected {what}")
    for name, allowed, allows_none in declared_ranges(owner):
        value = given[name]
        if value is None and allows_none:
            continue
        expected = allowed.describe(name) + (", or null" if allows_none else "")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{owner.__name__}: {name} = {value!r}, expected a number with {expected}")
        if not allowed.holds(value):
            raise ValueError(f"{owner.__name__}: {name} = {value}, expected {expected}")


def check_encoder(encoder: object) -> int:
    """Check that what was made as an encoder is one.

    Returns:
        The number of its features F.

    Raises:
        TypeError: It is no module, or does not say its number of features.
    """
    from torch import nn

    if not isinstance(encoder, nn.Module):
        raise TypeError(
            f"encoder made {encoder!r}, expected an nn.Module: give a class that takes the EnvSpec first"
        )
    features = getattr(encoder, "out_features", None)
    try:
        number = operator.index(features)  # type: ignore[arg-type]  # whatever an encoder of a user holds
    except TypeError:
        number = 0
    if number < 1 or isinstance(features, bool):
        raise TypeError(
            f"encoder made a {type(encoder).__name__} with out_features = {features!r}, expected the number "
            "of its features, an integer >= 1"
        )
    return number


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return the hint `` Did you mean X?`` for a misspelt name, or an empty string when nothing is close."""
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def is_plain(value: Any) -> bool:
    """Tell whether ``value`` is made of numbers, strings, booleans, None, lists, tuples and dicts only."""
    if isinstance(value, Mapping):
        return all(is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (int, float, str, bool)
