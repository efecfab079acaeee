"""Numbers as people read them."""

from __future__ import annotations

import math

_UNITS = ((86400.0, "d"), (3600.0, "h"), (60.0, "min"))

PLAYED = {"greedy": "greedy policy", "sample": "sampled policy"}
"""What evaluations may play (``eval_policy`` of the data module), as people read it."""


def duration(seconds: float) -> str:
    """Write a time span: ``12 s``, ``3.5 min``, ``2.0 h``, ``4.1 d``."""
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def number(value: float, digits: int = 4) -> str:
    """Write four significant digits without needless zeros: ``500``, ``0.01235``, ``1.235e-07``."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        decimals = max(0, digits - 1 - (math.floor(math.log10(abs(value))) if value else 0))
        text = f"{value:.{decimals}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.{digits - 1}e}"


def plural(count: int, noun: str) -> str:
    """Write a number of things: ``1 run``, ``2 runs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short(value: object, length: int = 80) -> str:
    """Write a value from a file as one line of at most ``length`` characters that a terminal can print."""
    text = str(value)
    line = "".join(letter if letter.isprintable() else " " for letter in text[:length])
    return line if len(text) <= length else f"{line[: length - 3]}..."
