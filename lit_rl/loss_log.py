"""Recorder and reports learn here where the files of a loss log lie, and which of their rows count."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG_DIR = "network_loss_logs"
SUFFIX = "_loss_log"
CONFIG = "config.json"
STATE = "recorder.json"
LOCATION = "location.txt"
_LARGEST_POINTER = 64_000
"""Most letters of the pointer that are read; it has a line for each place."""

_SEGMENT = re.compile(r"(.+)_losses(?:\.(\d+))?\.csv")


def find_loss_logs(run_directory: Path) -> list[Path]:
    """Find the directories of all loss logs of a run, inside it or at the places that its pointer names.

    Raises:
        OSError: A directory or the pointer cannot be read.
    """
    folder = run_directory / LOG_DIR
    found = [path for path in sorted(folder.glob(f"*{SUFFIX}*")) if path.is_dir()]
    text = ""
    if (folder / LOCATION).is_file():
        with (folder / LOCATION).open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LARGEST_POINTER)
    named = dict.fromkeys(folder / line for line in text.splitlines() if line)
    return [*found, *(path for path in named if path.is_dir())]


def segments(directory: Path, network: str | None = None) -> dict[str, list[Path]]:
    """List the CSV files of each network (or of one), in the order in which they were written."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in directory.glob("*_losses*.csv"):
        match = _SEGMENT.fullmatch(path.name)
        if match and network in (None, match.group(1)) and path.is_file():
            found.setdefault(match.group(1), []).append((int(match.group(2) or 0), path))
    return {name: [path for _, path in sorted(paths)] for name, paths in sorted(found.items())}


def trained_again(config: Mapping[str, Any], file: str) -> list[tuple[int, int]]:
    """List the resumes of the run: how many rows ``file`` had then, and the step of the checkpoint.

    Of these rows, those of a later step were replaced.

    Raises:
        ValueError: The configuration says something else there; or a KeyError, TypeError or OverflowError.
    """
    return [(int(mark["rows"].get(file, 0)), int(mark["step"])) for mark in config.get("resumes", [])]
