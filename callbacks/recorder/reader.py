"""Reads the CSV files of a loss log back: all segments as one table, whatever state they were left in."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lit_rl.callbacks.recorder.numbers import COLUMNS, Row
from lit_rl.files import read_json
from lit_rl.loss_log import CONFIG, segments, trained_again


@dataclass
class LossTable:
    """All rows of one network, oldest first.

    Attributes:
        steps: Step of each row.
        timestamps: Seconds since 1970.
        losses: Name to one value per row; None where the row has no such loss.
    """

    steps: list[int] = field(default_factory=list)
    timestamps: list[float] = field(default_factory=list)
    losses: dict[str, list[float | None]] = field(default_factory=dict)


def read_rows(directory: Path, network: str) -> Iterator[Row]:
    """Rows of one network, oldest first, without those that a resumed run trained again.

    A last line that is not complete, and lines that cannot be read, are left out.
    """
    config = read_json(directory / CONFIG)
    for path in segments(directory, network).get(network, []):
        limits = trained_again(config, path.name)
        for number, row in enumerate(_rows_of(path, network)):
            if row is not None and not any(number < rows and row.step > step for rows, step in limits):
                yield row


def read_losses(directory: Path, network: str) -> LossTable:
    """Read the rows of one network as a table, for plots of one run; it is not meant for millions of rows."""
    table = LossTable()
    for row in read_rows(directory, network):
        for name in row.losses:
            table.losses.setdefault(name, [None] * len(table.steps))
        for name, values in table.losses.items():
            values.append(row.losses.get(name))
        table.steps.append(row.step)
        table.timestamps.append(row.timestamp)
    return table


def count_rows(path: Path) -> int:
    """Complete lines below the header, readable or not."""
    return max(0, sum(1 for _ in _lines(path)) - 1)


def read_columns(path: Path) -> list[str] | None:
    """Names of the losses in a file; None when its header is not complete."""
    header = next(csv.reader(_lines(path)), None)
    return None if header is None else header[len(COLUMNS) :]


def _rows_of(path: Path, network: str) -> Iterator[Row | None]:
    """One entry per line below the header; None where it cannot be read."""
    lines = csv.reader(_lines(path))
    names = next(lines, [])[len(COLUMNS) :]
    for cells in lines:
        values = cells[len(COLUMNS) :]
        try:
            losses = {name: float(value) for name, value in zip(names, values, strict=True) if value}
            yield Row(network, int(cells[0]), float(cells[1]), losses)
        except (ValueError, IndexError):
            yield None


def _lines(path: Path) -> Iterator[str]:
    """Lines that are complete: a process that is killed may leave half of one."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        yield from (line for line in file if line.endswith("\n"))
