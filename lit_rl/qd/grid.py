"""Cells of an archive: what is measured of a body, between which bounds, in how many steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Grid:
    """Divides each measure into cells of equal size.

    Args:
        names: Names of the measures.
        cells: Number of cells of each measure.
        ranges: Lowest and highest value of each measure; what lies outside counts to the cell at the border.
        offset: Objective that adds nothing to the QD score, at most the lowest one that is possible.

    Raises:
        ValueError: The lists differ in length, a number of cells is not whole and positive, or a range is
            not finite or does not rise. pyribs would take all of these without a word.
    """

    names: Sequence[str]
    cells: Sequence[int]
    ranges: Sequence[Sequence[float]]
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not self.names or not len(self.names) == len(self.cells) == len(self.ranges):
            raise ValueError(
                "an archive needs one name, one number of cells and one range for each measure, got "
                f"{len(self.names)} names, {len(self.cells)} cells and {len(self.ranges)} ranges"
            )
        for name, count, bounds in zip(self.names, self.cells, self.ranges, strict=True):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"cells of {name} must be a whole number, at least 1, got {count!r}")
            if not _rises(bounds):
                raise ValueError(
                    f"ranges of {name} must be finite (low, high) with low < high, got {bounds!r}"
                )
        if not math.isfinite(self.offset):
            raise ValueError(f"offset must be finite, got {self.offset!r}")

    @property
    def num_cells(self) -> int:
        """Number of all cells."""
        return math.prod(self.cells)


def _rises(bounds: Any) -> bool:
    """Tell whether ``bounds`` are two finite numbers, the second one larger."""
    try:
        low, high = bounds
        return math.isfinite(low) and math.isfinite(high) and low < high
    except (TypeError, ValueError):
        return False
