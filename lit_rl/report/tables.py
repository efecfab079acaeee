"""Tables of numbers, as a run left them on disk: whole, still growing, torn, or of any size.

Axes: X points.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from lit_rl.files import open_regular
from lit_rl.report.thinning import Column

LONGEST_LINE = 1_000_000
"""Most bytes of a line; a longer one is damaged."""

MOST_COLUMNS = 10_000
"""A header of more names is damaged."""

LARGEST_STEP = 2**53
"""Steps are whole numbers, which a float holds up to here."""

LARGEST_VALUE = 1e100
"""Values beyond it are taken for infinite, so that no square of a value overflows; float32 ends at 3.4e38."""

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
        unread: Number of bytes that were skipped, because the end of the table was asked for.
        stride: Number of neighbouring values of which the extremes are kept; 1 where all values are.
    """

    columns: dict[str, Series] = field(default_factory=dict)
    damaged: int = 0
    last_step: int = 0
    unread: int = 0
    stride: int = 1


def read_table(path: Path, trained_again: Sequence[tuple[int, float]] = (), tail: int | None = None) -> Table:
    """Read what is whole of ``path``; a missing file is an empty table.

    Steps may go back, where a run was resumed from an older checkpoint: of equal steps the later row counts.

    Args:
        path: A CSV file.
        trained_again: Pairs of a number of rows and a step: of the first so many rows, those beyond the step
            are left out, because that part was trained again.
        tail: Number of bytes at the end of a larger file that are read, beside its header; None reads all.

    Raises:
        OSError: The file is there, but cannot be read.
    """
    table = Table()
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return table
    columns: dict[str, Column] = {}
    with file:
        lines = _whole_lines(file, table)
        header = _split(next(lines, ""))
        if tail is not None:
            table.unread = _skip_to(file, tail)
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
                if name not in columns:
                    columns[name] = Column()
                columns[name].append(step, value)
    table.columns = {name: in_order(*column.points()) for name, column in columns.items()}
    table.stride = max((column.stride for column in columns.values()), default=1)
    return table


def last_row(path: Path, tail: int) -> dict[str, float]:
    """Read the numbers of the last whole row among the last ``tail`` bytes; without a row there are none.

    Raises:
        OSError: The file cannot be read.
        ValueError: The row holds something else.
    """
    with open_regular(path) as file:
        lines = _whole_lines(file, Table())
        header = _split(next(lines, ""))
        _skip_to(file, tail)
        rows = [row for row in map(_split, lines) if len(row) == len(header)]
    return {name: _value(cell) for name, cell in zip(header, rows[-1], strict=True)} if rows else {}


def in_order(steps: np.ndarray, values: np.ndarray) -> Series:
    """Sort by step; of equal steps keep the last."""
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    is_last = np.append(np.diff(steps) > 0, True)[: len(steps)]
    return Series(steps[is_last], values[is_last])


def _skip_to(file: BinaryIO, tail: int) -> int:
    """Go to the first line that begins within the last ``tail`` bytes; return how many bytes were skipped."""
    here = file.tell()
    begin = file.seek(0, io.SEEK_END) - tail
    if begin <= here:
        file.seek(here)
        return 0
    file.seek(begin)
    file.readline(LONGEST_LINE)
    return file.tell() - here


def _whole_lines(file: BinaryIO, table: Table) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if line.endswith(b"\n"):
            yield line.decode("utf-8", errors="replace")
            continue
        table.damaged += 1
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST_LINE)


def _split(line: str) -> list[str]:
    """Split a line into cells; there are none where it is no CSV."""
    if '"' not in line and "\r" not in line[:-2]:
        text = line.rstrip("\r\n")
        return text.split(",") if text else []
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return []


def _parse(row: list[str], header: list[str]) -> tuple[float, list[tuple[str, float]]]:
    """Read the step and the values of one row.

    Raises:
        ValueError: The row is not whole.
    """
    if len(row) != len(header) or len(row) > MOST_COLUMNS or "step" not in header:
        raise ValueError("number of cells")
    cells = dict(zip(header, row, strict=True))
    step = float(cells.pop("step"))
    if not abs(step) <= LARGEST_STEP:  # NaN neither
        raise ValueError("step")
    return step, [(name, _value(cell)) for name, cell in cells.items() if cell and name not in NOT_VALUES]


def _value(cell: str) -> float:
    value = float(cell)
    return value if not abs(value) > LARGEST_VALUE else math.copysign(math.inf, value)
