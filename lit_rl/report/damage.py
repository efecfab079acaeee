"""Damage in the files of a run costs the part of a report that needs them, and that part says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from lit_rl.files import load_json, read_bytes

DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TemplateError,
    TypeError,
    ValueError,
)
"""What reading a value of the wrong type, size or depth may raise."""

LARGEST_TEXT = 256_000
"""Most bytes of ``config.yaml`` that are read; it stands on the page as it is."""


def reason(error: BaseException, what: str) -> str:
    """Say on one line why ``what``, a file or a part of the report, is left out.

    An error of the system has words for people. Whatever else a wrong value led to is damage.
    """
    if isinstance(error, FileNotFoundError):
        return f"{what} is missing"
    if isinstance(error, OSError):
        return f"{what}: {error.strerror or error}"
    return f"{what} is damaged"


def object_of(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; a missing file is an empty one.

    Raises:
        OSError: The file cannot be read.
        ValueError: It holds no object.
    """
    try:
        return load_json(path)
    except FileNotFoundError:
        return {}


def text_of(path: Path) -> str:
    """Read a text of at most ``LARGEST_TEXT`` bytes.

    Raises:
        OSError: The file cannot be read, or is larger.
    """
    return read_bytes(path, LARGEST_TEXT).decode("utf-8", errors="replace")


@contextmanager
def noting(what: str, notes: list[str]) -> Iterator[None]:
    """Read ``what`` inside; where that fails, note why, and go on behind."""
    try:
        yield
    except DAMAGED as error:
        notes.append(reason(error, what))
