"""Tables of numbers, and JSON objects, as a run left them on disk: whole, still growing, or torn.

Axes: X points.
"""

from __future__ import annotations

import csv
import math
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import numpy as np

NOT_VALUES = ("timestamp", "source", "provenance")
"""Columns of the loss recorder that are no measured values."""


class Series(NamedTuple):
    """Values over env steps, both ``(X,)`` float64; steps increase."""

    steps: np.ndarray
    values: np.ndarray

    @property
    def last(self) -> float:
        """The newest value."""
        return float(self.values[-1])


@dataclass
class Table:
    """The columns of a CSV file over its column ``step``.

    Attributes:
        columns: The values that are there, by name; a column without any is left out.
        damaged: Number of lines that could not be read and are left out.
        last_step: Largest step of all rows; 0 when there are none.
    """

    columns: dict[str, Series] = field(default_factory=dict)
    damaged: int = 0
    last_step: int = 0


def read_table(path: Path, trained_again: Sequence[tuple[int, float]] = ()) -> Table:
    """Read what is whole of ``path``; a missing file is an empty table.

    Steps may go back, where a run was resumed from an older checkpoint: of equal steps the later row counts.

    Args:
        path: A CSV file.
        trained_again: Pairs of a number of rows and a step: of the first so many rows, those beyond the step
            are left out, because that part was trained again.

    Raises:
        OSError: The file is there, but cannot be read.
    """
    table = Table()
    if not path.is_file():
        return table
    gathered: dict[str, tuple[array[float], array[float]]] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = _whole_lines(file, table)
        header = _split(next(lines, ""))
        for number, line in enumerate(lines):
            try:
                step, cells = _parse(_split(line), header)
            except ValueError:
                table.damaged += 1
                continue
            if any(number < rows_then and step > limit for rows_then, limit in trained_again):
                continue
            table.last_step = max(table.last_step, int(step))
            for name, value in cells:
                steps, values = gathered.setdefault(name, (array("d"), array("d")))
                steps.append(step)
                values.append(value)
    table.columns = {name: in_order(np.array(s), np.array(v)) for name, (s, v) in gathered.items()}
    return table


def in_order(steps: np.ndarray, values: np.ndarray) -> Series:
    """Sort by step; of equal steps keep the last."""
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    is_last = np.append(np.diff(steps) > 0, True)[: len(steps)]
    return Series(steps[is_last], values[is_last])


def _whole_lines(file: TextIOWrapper, table: Table) -> Iterator[str]:
    for line in file:
        if line.endswith("\n"):
            yield line
        else:
            table.damaged += 1


def _split(line: str) -> list[str]:
    """Split a line into cells; there are none where it is no CSV."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _parse(row: list[str], header: list[str]) -> tuple[float, list[tuple[str, float]]]:
    """Read the step and the values of one row.

    Raises:
        ValueError: The row is not whole.
    """
    if len(row) != len(header) or "step" not in header:
        raise ValueError("number of cells")
    cells = dict(zip(header, row, strict=True))
    step = float(cells.pop("step"))
    if not math.isfinite(step):
        raise ValueError("step")
    return step, [(name, float(cell)) for name, cell in cells.items() if cell and name not in NOT_VALUES]
