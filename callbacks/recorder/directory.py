"""Which directory a loss log gets: its own, never that of another run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lit_rl.callbacks.recorder.settings import LOG_DIR

CONFIG = "config.json"
LOCATION = "location.txt"
_SUFFIX = "_loss_log"


def claim(log_dir: Path, experiment: str, run_directory: str | None, is_resumed: bool) -> tuple[Path, bool]:
    """Make ``<experiment>_loss_log``, or with ``-2``, ``-3`` and so on where that is taken.

    Args:
        log_dir: Folder of all loss logs; made if needed.
        experiment: Name of the experiment.
        run_directory: Whose log it is.
        is_resumed: Go on in the newest directory that belongs to ``run_directory``, if there is one.

    Returns:
        The directory, and whether it goes on with an earlier part of the run.

    Raises:
        OSError: It cannot be made.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    number, own = 1, None
    candidate = first = log_dir / f"{experiment}{_SUFFIX}"
    while candidate.exists():
        if is_resumed and run_directory is not None and owner(candidate) == run_directory:
            own = candidate
        number += 1
        candidate = first.with_name(f"{first.name}-{number}")
    if own is not None:
        return own, True
    try:
        candidate.mkdir()
    except FileExistsError:  # another run was faster
        return claim(log_dir, experiment, run_directory, is_resumed)
    return candidate, False


def owner(directory: Path) -> str | None:
    """The run directory that a loss log belongs to; None when that is not known."""
    return read_json(directory / CONFIG).get("run_directory")


def read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty when there is none that can be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def leave_pointer(run_directory: Path, directory: Path) -> None:
    """Let a run whose log lies elsewhere say where.

    Raises:
        OSError: The run directory cannot be written.
    """
    folder = run_directory / LOG_DIR
    folder.mkdir(parents=True, exist_ok=True)
    (folder / LOCATION).write_text(f"{directory.absolute()}\n", encoding="utf-8")


def find_loss_logs(run_directory: Path) -> list[Path]:
    """Directories of all loss logs of a run, inside it or where its pointer says."""
    folder = run_directory / LOG_DIR
    found = [path for path in sorted(folder.glob(f"*{_SUFFIX}*")) if path.is_dir()]
    location = folder / LOCATION
    if location.is_file():
        lines = location.read_text(encoding="utf-8").splitlines()
        found += [Path(line) for line in lines if Path(line).is_dir()]
    return found
