"""The check that the heads of an attention share its width evenly."""

from __future__ import annotations


def check_heads(owner: str, heads: int, width: int) -> None:
    """Refuse heads that do not divide the width.

    Raises:
        ValueError: They do not; the message names some that do.
    """
    if width % heads:
        fitting = [n for n in range(1, min(width, 16) + 1) if width % n == 0]
        raise ValueError(f"{owner}: heads = {heads} must divide width = {width}; {fitting} would")
