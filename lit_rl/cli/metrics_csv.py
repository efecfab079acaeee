"""``metrics.csv``: all logged values of a run, one row per env step count."""

from __future__ import annotations

import csv
import io
import logging
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from lit_rl.files import open_own, write_text

_log = logging.getLogger("lit_rl")

STEP = "step"
"""Name of the column that counts env steps."""


class MetricsCSV(Logger):
    """Appends to ``metrics.csv``, also when a run is resumed; Lightning's ``CSVLogger`` deletes it then.

    Values logged at the same step share a row. The file is written once a second and at the end, so that a
    killed run loses a second of rows at most.

    Args:
        directory: The run directory.
        resume_step: Env steps of the checkpoint that training goes on from. Rows beyond it are removed,
            because that part is trained again.
    """

    is_row_per_batch = True
    """Values at a step inside a batch are left to the other loggers."""

    def __init__(self, directory: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self._path = Path(directory) / "metrics.csv"
        self._resume_step = resume_step
        self._columns: list[str] | None = None  # None until the file was looked at
        self._rows: list[dict[str, Any]] = []
        self._newest: dict[str, Any] = {}  # the last row in the file, which may still grow
        self._newest_at = 0  # where it begins, in bytes
        self._written_at = time.monotonic()

    @property
    def name(self) -> str:
        """The name is empty, because the file lies directly in the run directory."""
        return ""

    @property
    def version(self) -> str:
        """The version is empty, because each run has its own directory."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run directory."""
        return str(self._path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: hyper-parameters are in ``config.yaml``."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the row of ``step``."""
        if self._rows and self._rows[-1][STEP] == step:
            self._rows[-1].update(metrics)
        else:
            self._rows.append({STEP: step, **metrics})
        if time.monotonic() - self._written_at > 1.0:
            self._write(self._rows[:-1])  # the newest row may still grow
            self._rows = self._rows[-1:]

    @rank_zero_only
    def save(self) -> None:
        """Write what is not written yet."""
        self._write(self._rows)
        self._rows = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write what is not written yet."""
        self.save()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._written_at = time.monotonic()
        if not rows:
            return
        columns = self._open() if self._columns is None else self._columns
        new = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in columns]
        self._columns = columns + new
        is_continued = rows[0][STEP] == self._newest.get(STEP)
        if is_continued:
            rows = [{**self._newest, **rows[0]}, *rows[1:]]
        if new:
            written = _read(self._path)
            self._replace((written[:-1] if is_continued else written) + rows[:-1])
        self._append(rows[-1:] if new else rows, self._newest_at if is_continued and not new else None)

    def _append(self, rows: list[dict[str, Any]], at: int | None) -> None:
        """Write rows at the end of the file, or from byte ``at`` on in place of what stands there."""
        with open_own(self._path, "r+b") as file:
            file.seek(0 if at is None else at, io.SEEK_END if at is None else io.SEEK_SET)
            file.write(self._render(rows[:-1]))
            self._newest, self._newest_at = rows[-1], file.tell()
            file.write(self._render(rows[-1:]))
            file.truncate()

    def _render(self, rows: list[dict[str, Any]]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns or []).writerows(rows)
        return text.getvalue().encode()

    def _open(self) -> list[str]:
        """Read the columns that an earlier part of this run wrote, and remove rows that are trained again."""
        rows = _read(self._path)
        self._columns = list(rows[0]) if rows else []
        if rows:
            limit = self._resume_step
            kept = [row for row in rows if limit is None or int(row[STEP]) <= limit]
            if len(kept) < len(rows):
                count = len(rows) - len(kept)
                _log.info("metrics.csv: %d rows after %d env steps are trained again, replaced", count, limit)
            self._replace(kept)  # also ends a line that a killed process left incomplete
        return self._columns

    def _replace(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns or [])
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._path, text.getvalue())


def _read(path: Path) -> list[dict[str, Any]]:
    """Read the rows of ``path``, without a last line that a killed process left incomplete."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(csv.DictReader(line for line in lines if line.endswith("\n")))
