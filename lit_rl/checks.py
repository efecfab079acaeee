"""Checks of what users and other files hand over, with messages that say what was expected and what came.

The name of a tensor ends in its axes (``reward_TN``), with the letters of :data:`AXES`.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
