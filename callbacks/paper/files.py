"""Files of the paper export: names, columns, writing, reading. No torch: the figure's process uses it."""

from __future__ import annotations

import json
import logging
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lit_rl.files import write_text

_log = logging.getLogger("lit_rl")

EPISODES, SYNC, COMPONENTS = "episode_rewards", "sync_metrics", "reward_components"
SKILLS, FIGURE = "skill_usage", "sync_training_progress"
SUMMARY = "sync_training_summary.json"

MAX_PENDING = 64
"""Files that may wait to be written: memory does not grow where the disk cannot follow."""
GIVE_INTERVAL_S = 1.0
"""Files are written so often, several at once."""

HEADERS = {
    EPISODES: (
        "episode,env_id,total_reward,episode_length,timestamp,"
        "env_component,team_disc_component,ind_disc_component"
    ),
    SYNC: "policy_version,samples_collected,collection_time,update_time,sync_efficiency",
    COMPONENTS: "step,env_id,component,value",
}
"""First line of each kind of CSV file."""

_KINDS = "|".join((*HEADERS, SKILLS, FIGURE))
_NAME = re.compile(rf"(?P<kind>{_KINDS})_step_(?P<step>\d+)(_rank(?P<rank>\d+))?\.(csv|json|png)")


def file_name(kind: str, step: int, suffix: str, rank: int = 0) -> str:
    """Name of one export; ranks beyond the first say so."""
    return f"{kind}_step_{step}{f'_rank{rank}' if rank else ''}{suffix}"


class _File(NamedTuple):
    name: str
    make_text: Callable[[], str]
    rows: int


class PaperFiles:
    """Writes what one rank exports, in a thread: making a file can take long where the disk is busy.

    A fault is warned of once; training goes on.

    Args:
        directory: Created when something is written.
        rank: Rank of this process.
    """

    def __init__(self, directory: Path, rank: int = 0) -> None:
        self.directory, self.rank = directory, rank
        self._has_warned = False
        self._thread = ThreadPoolExecutor(1, "paper_files")
        self._waiting: list[_File] = []  # not given to the thread yet
        self._given_at = time.monotonic()
        self._pending: deque[tuple[Future[int], int]] = deque()

    def write_rows(self, kind: str, step: int, rows: list[str]) -> None:
        """Write a CSV file with its header, soon; the list is given away."""
        name = file_name(kind, step, ".csv", self.rank)
        self._submit(name, lambda: "\n".join([HEADERS[kind], *rows, ""]), len(rows))

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write a JSON object, one key per line, soon."""
        lines = (f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())
        self._submit(name, lambda: "{\n" + ",\n".join(lines) + "\n}\n", 0)

    def collect(self, *, wait: bool = False) -> int:
        """Rows lost since the last call, as far as that is known by now.

        Args:
            wait: True waits until all is written; False waits only while more than ``MAX_PENDING`` files do.
        """
        lost = 0
        if wait or len(self._waiting) + self._num_pending() > MAX_PENDING:
            self._give()
        while self._pending:
            future, _ = self._pending[0]
            if not (wait or self._num_pending() > MAX_PENDING or future.done()):
                break
            self._pending.popleft()
            lost += future.result()
        return lost

    def _num_pending(self) -> int:
        return sum(files for _, files in self._pending)

    def close(self) -> int:
        """Write all and end the thread; returns the rows lost since the last :meth:`collect`."""
        lost = self.collect(wait=True)
        self._thread.shutdown()
        return lost

    def _submit(self, name: str, make_text: Callable[[], str], rows: int) -> None:
        self._waiting.append(_File(name, make_text, rows))
        if time.monotonic() - self._given_at >= GIVE_INTERVAL_S:
            self._give()

    def _give(self) -> None:
        """Hand the thread what waits: to wake it for every file would hold up training."""
        self._given_at = time.monotonic()
        if self._waiting:
            files, self._waiting = self._waiting, []
            self._pending.append((self._thread.submit(self._write_all, files), len(files)))

    def _write_all(self, files: list[_File]) -> int:
        """Write them, and return the number of rows lost."""
        return sum(file.rows for file in files if not self._write(file.name, file.make_text))

    def _write(self, name: str, make_text: Callable[[], str]) -> bool:
        path = self.directory / name
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_text(path, make_text())
        except OSError as error:
            if not self._has_warned:
                _log.warning(
                    "PaperExport cannot write %s: %s; training goes on, lost rows are counted (rows_lost in "
                    "%s). Free space, or give a directory that can be written",
                    path,
                    error.strerror or error,
                    SUMMARY,
                )
            self._has_warned = True
            return False
        return True

    def has(self, kind: str) -> bool:
        """Tell whether this rank wrote a file of that kind, if the directory can be read at all."""
        try:
            return any(rank == self.rank for _, rank, _ in _exports(self.directory, kind))
        except OSError:
            return False


def claim_directory(base: Path, run_id: str) -> Path:
    """The directory of this run: ``base``, or ``base_2`` and so on where other runs have written.

    Raises:
        OSError: A directory cannot be read.
    """
    number, path = 1, base
    while any(_exports(path)) or (path / SUMMARY).exists():
        if _owner(path) == run_id:
            return path
        number += 1
        path = base.with_name(f"{base.name}_{number}")
    return path


def _owner(directory: Path) -> str | None:
    try:
        return json.loads((directory / SUMMARY).read_text(encoding="utf-8"))["run_id"]
    except (OSError, ValueError, LookupError, TypeError):
        return None


def remove_after(directory: Path, step: int) -> tuple[int, int]:
    """Remove the exports after env step ``step``, and what a killed process left unfinished.

    Returns:
        Numbers of files and of rows removed.

    Raises:
        OSError: A file cannot be removed.
    """
    late = [path for path in _files(directory) if _step_of(path) > step]
    rows = sum(path.read_bytes().count(b"\n") - 1 for path in late if path.suffix == ".csv")
    for path in late:
        path.unlink()
    return len(late), rows


def _files(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def _step_of(path: Path) -> int:
    """Env step in the name of an export, finished or not; -1 for other files."""
    match = _NAME.fullmatch(path.name.removeprefix(".").removesuffix(".unfinished"))
    return int(match["step"]) if match else -1


def _exports(directory: Path, kind: str | None = None) -> Iterator[tuple[int, int, Path]]:
    """Step, rank and path of each export, in no order; without files or directory nothing."""
    for path in _files(directory):
        match = _NAME.fullmatch(path.name)
        if match and kind in (None, match["kind"]):
            yield int(match["step"]), int(match["rank"] or 0), path


def read_columns(directory: Path, kind: str, step: int | None = None) -> dict[str, np.ndarray]:
    """All rows of ``episode_rewards`` or ``sync_metrics`` of all ranks, in the order of steps and ranks.

    Args:
        directory: Where the export wrote.
        kind: ``EPISODES`` or ``SYNC``.
        step: Leave later files out.

    Returns:
        Each column ``(rows,)`` float64, and ``rank``.
    """
    names = HEADERS[kind].split(",")
    lines: list[str] = []
    ranks: list[int] = []
    for its_step, rank, path in sorted(_exports(directory, kind)):
        if path.suffix == ".csv" and (step is None or its_step <= step):
            rows = path.read_text(encoding="utf-8").splitlines()[1:]
            lines += rows
            ranks += [rank] * len(rows)
    table = np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.empty((0, len(names)))
    return dict(zip(names, table.T, strict=True)) | {"rank": np.array(ranks, int)}
