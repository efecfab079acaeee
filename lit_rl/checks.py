"""Checks at the door: what was expected, what came, who decided it. The name of a tensor says its axes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # environments check with this file, too, and do without torch
    from torch import Tensor

AXES = {"T": "step", "K": "step", "N": "environment", "A": "agent", "B": "sample", "C": "critic"}
"""What a letter of an axis suffix counts, for messages; letters not listed speak for themselves."""


def check_shapes(**tensors: Tensor) -> dict[str, int]:
    """Check that every tensor has the axes its keyword names, and that equal letters agree.

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


def check_finite(where: str, **tensors: Tensor) -> None:
    """Check that no tensor holds NaN or infinity; costs one host sync for all of them together.

    Args:
        where: What was being done, the start of the message.
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
                f"{where}: {name} is {tensor[index].item()}{_place(name, index)}; "
                f"{len(bad)} of its {tensor.numel()} values are not finite."
            )


def _place(name: str, index: tuple[int, ...]) -> str:
    """Words for an index: `` at step 3, environment 5``."""
    if not index:
        return ""
    axes = name.rpartition("_")[2]
    if len(axes) != len(index) or not axes.isupper():
        return f" at index {index}"
    words = [f"{AXES.get(letter, letter)} {i}" for letter, i in zip(axes, index, strict=True)]
    return " at " + ", ".join(words)


def nearest(name: str, candidates: Iterable[str]) -> str:
    """The hint `` Did you mean X?`` for a misspelt name, or an empty string when nothing is close."""
    close = difflib.get_close_matches(name, list(candidates), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def is_plain(value: Any) -> bool:
    """Whether ``value`` is made of numbers, strings, booleans, None, lists, tuples and dicts only."""
    if isinstance(value, Mapping):
        return all(is_plain(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (int, float, str, bool)
