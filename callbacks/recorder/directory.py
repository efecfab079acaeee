"""Gives each loss log a directory of its own, never that of another run."""

from __future__ import annotations

from pathlib import Path

from lit_rl.files import read_json, write_text
from lit_rl.loss_log import CONFIG, LOCATION, LOG_DIR, SUFFIX


def claim(log_dir: Path, experiment: str, run_directory: str | None, is_resumed: bool) -> tuple[Path, bool]:
    """Make ``<experiment>_loss_log``, or with ``-2``, ``-3`` and so on where that is taken.

    Args:
        log_dir: Folder of all loss logs; made if needed.
        experiment: Name of the experiment.
        run_directory: Directory of the run whose log it is; None when there is no run.
        is_resumed: True goes on in the newest directory that belongs to ``run_directory``, if there is one.

    Returns:
        The directory, and whether it goes on with an earlier part of the run.

    Raises:
        OSError: The directory cannot be made.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    number, own = 1, None
    candidate = first = log_dir / f"{experiment}{SUFFIX}"
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


def leave_pointer(run_directory: Path, directory: Path) -> None:
    """Let a run whose log lies elsewhere say where.

    Raises:
        OSError: The run directory cannot be written.
    """
    folder = run_directory / LOG_DIR
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / LOCATION, f"{directory.absolute()}\n")
