"""Turns what a training loop hands in into plain numbers: the caller copies, the sender thread converts."""

from __future__ import annotations

import math
import operator
import re
import sys
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

NETWORK_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
COLUMNS = ("step", "timestamp", "source")
"""Columns of every CSV file; no loss may have these names."""


class Row(NamedTuple):
    """The losses of one network at one step.

    Attributes:
        network: Lower-case name.
        step: Training step at which these are the losses.
        timestamp: Seconds since 1970.
        losses: Name to number; NaN and infinities are values like any other.
    """

    network: str
    step: Any
    timestamp: Any
    losses: dict[str, Any]


class OnDevice(NamedTuple):
    """A copy of a tensor that lies on an accelerator, and the event after which it holds the value."""

    tensor: Any
    event: Any


def hold(value: Any) -> Any:
    """Keep a value as it is now, without waiting for an accelerator.

    Raises:
        ValueError: The value is an array of several numbers.
        RuntimeError: The value is a tensor of several numbers on the CPU.
    """
    if isinstance(value, float | int):
        return value
    if getattr(getattr(value, "device", None), "type", "cpu") == "cpu":  # also numpy, whose device is a str
        return value.item() if hasattr(value, "item") else value
    if value.numel() != 1:
        raise ValueError(f"a loss must be one number, got a tensor of shape {tuple(value.shape)}")
    copy = value.detach().reshape(()).clone()
    event = None
    if copy.device.type == "cuda":
        cuda = sys.modules["torch"].cuda
        event = cuda.Event()
        event.record(cuda.current_stream(copy.device))
    return OnDevice(copy, event)


def fetch(rows: Sequence[Row]) -> None:
    """Replace every ``OnDevice`` in ``rows`` by its number: one transfer for each device and dtype.

    Values that cannot be fetched stay as they are, so that :func:`check` refuses them.
    """
    groups: dict[Any, list[tuple[dict[str, Any], str, OnDevice]]] = {}
    for row in rows:
        for name, value in row.losses.items():
            if isinstance(value, OnDevice):
                key = (value.tensor.device, value.tensor.dtype)
                groups.setdefault(key, []).append((row.losses, name, value))
    for group in groups.values():
        try:
            for *_, held in group:
                if held.event is not None:
                    held.event.synchronize()
            stacked = sys.modules["torch"].stack([held.tensor for *_, held in group])
            numbers = stacked.cpu().double().tolist()
        except RuntimeError:  # the device failed: training will say so itself
            continue
        for (losses, name, _), number in zip(group, numbers, strict=True):
            losses[name] = number


def check(row: Row) -> Row:
    """Convert a row to plain types.

    Raises:
        TypeError: A value is no number, or the step no integer.
        ValueError: A name cannot be used, or there is no loss.
        OverflowError: A number does not fit a float.
    """
    if not NETWORK_NAME.fullmatch(row.network):
        raise ValueError(
            f"network must consist of letters, digits and _ . - (64 at most), got {row.network!r}"
        )
    if not row.losses:
        raise ValueError(f"network {row.network}: at least one loss expected, got none")
    timestamp = float(row.timestamp)
    if not math.isfinite(timestamp):
        raise ValueError(f"network {row.network}: timestamp must be finite, got {timestamp}")
    return Row(row.network, _integer(row.step), timestamp, _numbers(row.losses))


def _integer(value: Any) -> int:
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"step must be an integer, got {value}")
        return int(value)
    return operator.index(value)


def _numbers(losses: Mapping[Any, Any]) -> dict[str, float]:
    for name, value in losses.items():
        if not isinstance(name, str) or not name or name in COLUMNS or not name.isprintable():
            raise ValueError(
                f"a loss must have a printable name other than {', '.join(COLUMNS)}, got {name!r}"
            )
        if not isinstance(value, Real):
            raise TypeError(f"loss {name} must be a number, got {type(value).__name__}")
    return {name: float(value) for name, value in losses.items()}
