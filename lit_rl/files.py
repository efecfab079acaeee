"""Files that are complete or not there at all, and reading what may be torn all the same."""

from __future__ import annotations

import json
import math
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any


def unfinished(path: Path) -> Path:
    """Name the file beside ``path`` that is written first, until :meth:`Path.replace` puts it in place."""
    return path.with_name(f".{path.name}.unfinished")


def write_text(path: Path, text: str) -> None:
    """Write ``path`` so that readers see the old file or the new one, never half of it.

    Raises:
        OSError: It cannot be written; the old file is left as it was, and nothing beside it.
    """
    beside = unfinished(path)
    try:
        beside.write_bytes(text.encode())
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def keep_as(path: Path, name: Path) -> None:
    """Give the file ``path`` a second ``name``: a hard link where the file system has them, else a copy.

    Readers of ``name`` see what it was before or all of ``path``. Replacing ``path`` later leaves ``name`` as
    it is; a file that is written to in place must not be kept so.

    Raises:
        OSError: It cannot be written; the old ``name`` is left as it was, and nothing beside it.
    """
    name.parent.mkdir(parents=True, exist_ok=True)
    beside = unfinished(name)
    try:
        beside.unlink(missing_ok=True)  # what a killed process left may be a link: a copy would write into it
        try:
            os.link(path, beside)
        except OSError:
            shutil.copyfile(path, beside)
        beside.replace(name)
    finally:
        with suppress(OSError):  # replacing a link by another link to the same file leaves both
            beside.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any], indent: int | None = 2) -> None:
    """Write strict JSON like :func:`write_text`: NaN and infinities become ``"nan"``, ``"inf"``, ``"-inf"``.

    Args:
        path: The file.
        content: Plain types.
        indent: Spaces before nested lines; None writes one line without spaces, for long arrays.

    Raises:
        OSError: It cannot be written; the old file is left as it was.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(_strict(content), indent=indent, separators=separators, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in ``path``; it is empty where there is none or the file is torn."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
