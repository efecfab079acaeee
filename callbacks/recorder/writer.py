"""Appends rows to CSV files; a batch is in the files as a whole or not at all."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from lit_rl.callbacks.recorder.numbers import COLUMNS, Row
from lit_rl.callbacks.recorder.reader import read_columns
from lit_rl.files import open_own
from lit_rl.loss_log import segments

MAX_SEGMENT_BYTES = 256 * 2**20
"""A file of this size is followed by a new one."""


class LossWriter:
    """Writes ``<network>_losses.csv``: step, timestamp, source, and one column per loss.

    The columns are fixed by the first row. A row with a loss that has no column opens the next segment,
    ``<network>_losses.1.csv``, with the old columns and the new one; a loss that a row lacks is left blank.

    Args:
        directory: Directory of the loss log.
        source: Content of the column ``source``.
        max_segment_bytes: Size in bytes from which a file is followed by a new one.

    Attributes:
        sizes: Bytes of each file, by name.
    """

    def __init__(
        self, directory: Path, source: str = "measured", max_segment_bytes: int = MAX_SEGMENT_BYTES
    ) -> None:
        self._directory, self._source = directory, source
        self._max_segment_bytes = max_segment_bytes
        self._newest: dict[str, _Segment] = {}
        self._files: dict[Path, IO[bytes]] = {}
        files = [path for paths in segments(directory).values() for path in paths]
        self.sizes = {path.name: path.stat().st_size for path in files}

    def repair(self) -> None:
        """Cut off last lines that an earlier process left incomplete."""
        for name, size in list(self.sizes.items()):
            path = self._directory / name
            self.sizes[name] = complete = _complete_bytes(path)
            if complete == 0:
                path.unlink()
                del self.sizes[name]
            elif complete < size:
                os.truncate(path, complete)

    def restore(self, sizes: dict[str, int]) -> None:
        """Take back everything behind ``sizes``: it was never acknowledged and will be sent again."""
        self.close()
        for paths in segments(self._directory).values():
            for path in paths:
                if path.name not in sizes:
                    path.unlink()
                elif path.stat().st_size > sizes[path.name]:
                    os.truncate(path, sizes[path.name])
        self.sizes = dict(sizes)

    def append(self, rows: Iterable[Row]) -> None:
        """Write all rows, so that other processes see them.

        Raises:
            OSError: None of the rows was written.
        """
        before = dict(self.sizes)
        try:
            for network, of_network in groupby(
                sorted(rows, key=lambda row: row.network), lambda r: r.network
            ):
                self._append(network, of_network)
        except OSError:
            with suppress(OSError):
                self.restore(before)
            raise

    def sync(self) -> None:
        """Have the disk hold what was written, also if the machine dies."""
        for file in self._files.values():
            os.fsync(file)

    def close(self) -> None:
        """Close the files; the next row opens them again."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        self._newest.clear()

    def _append(self, network: str, rows: Iterable[Row]) -> None:
        segment = self._newest.get(network) or self._find(network)
        lines: list[list[Any]] = []
        for row in rows:
            if segment is None or self._is_full(segment) or not row.losses.keys() <= segment.names:
                if segment is not None:
                    self._write(segment, lines)
                segment = _Segment.after(segment, self._directory, network, row)
                lines = [[*COLUMNS, *segment.columns]]
            values = [row.losses.get(name, "") for name in segment.columns]
            lines.append([row.step, f"{row.timestamp:.6f}", self._source, *values])
        if segment is not None:
            self._write(segment, lines)
            self._newest[network] = segment

    def _find(self, network: str) -> _Segment | None:
        """The last segment that an earlier part of the run left."""
        paths = segments(self._directory, network).get(network, [])
        columns = read_columns(paths[-1]) if paths else None
        return None if columns is None else _Segment(paths[-1], len(paths) - 1, columns)

    def _is_full(self, segment: _Segment) -> bool:
        return self.sizes.get(segment.path.name, 0) >= self._max_segment_bytes

    def _write(self, segment: _Segment, lines: list[list[Any]]) -> None:
        if segment.path not in self._files:
            self._files[segment.path] = open_own(segment.path, "ab", buffering=0)
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(lines)
        data = memoryview(text.getvalue().encode())
        while data:
            count = self._files[segment.path].write(data)
            self.sizes[segment.path.name] = self.sizes.get(segment.path.name, 0) + count
            data = data[count:]


class _Segment:
    """One file, and the losses it has columns for."""

    def __init__(self, path: Path, number: int, columns: list[str]) -> None:
        self.path, self.number, self.columns = path, number, columns
        self.names = set(columns)

    @staticmethod
    def after(last: _Segment | None, directory: Path, network: str, row: Row) -> _Segment:
        """The segment that follows ``last`` and has a column for every loss of ``row``."""
        number = 0 if last is None else last.number + 1
        known = [] if last is None else last.columns
        columns = [*known, *(name for name in row.losses if name not in known)]
        name = f"{network}_losses.csv" if number == 0 else f"{network}_losses.{number}.csv"
        return _Segment(directory / name, number, columns)


def _complete_bytes(path: Path) -> int:
    """Bytes up to and with the last end of a line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 4096)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            end = start
    return 0
