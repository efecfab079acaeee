"""Files that are complete or not there at all, and reading what may be torn all the same."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal

LARGEST_JSON = 32_000_000
"""Most bytes of a JSON file that is read: as objects of Python they may take twenty times as much memory."""

_MOST_DIGITS = 300
"""A whole number of more digits is no float, and is read as infinite."""


def unfinished(path: Path) -> Path:
    """Name the file beside ``path`` that is written first, until :meth:`Path.replace` puts it in place."""
    return path.with_name(f".{path.name}.unfinished")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the name of a new file beside ``path``, which takes its place when all of it is written inside.

    Readers see the old file or the new one, never half of it. A link at either name is replaced, not
    followed. What a killed process left under the name is removed before, and what fails inside, too.

    Raises:
        OSError: It cannot be written; the old file is left as it was, and nothing beside it.
    """
    beside = unfinished(path)
    beside.unlink(missing_ok=True)
    try:
        yield beside
        beside.replace(path)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write ``path`` as a whole, as :func:`replacing` does; letters that UTF-8 does not have are escaped.

    Raises:
        OSError: It cannot be written; the old file is left as it was, and nothing beside it.
    """
    with replacing(path) as beside, beside.open("xb") as file:
        file.write(text.encode(errors="backslashreplace"))


def remove_unfinished(directory: Path) -> int:
    """Remove what killed processes left unfinished anywhere in ``directory``, and return how many files."""
    found = [path for path in directory.rglob(".*.unfinished") if path.is_symlink() or path.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return len(found)


def open_own(path: Path, mode: Literal["a", "ab", "r+b"], **options: Any) -> IO[Any]:
    """Open a file of this run to write on; a link that somebody put under its name is not followed.

    A link to a device such as ``/dev/null`` is: it names no file that could be overwritten.

    Args:
        path: The file.
        mode: ``r+b`` expects that it is there.
        **options: As of ``open``.

    Raises:
        OSError: It cannot be written, or is a link.
    """
    flags = os.O_RDWR if mode == "r+b" else os.O_WRONLY | os.O_CREAT | os.O_APPEND
    if not path.is_char_device():
        flags |= getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o666), mode, **options)


def keep_as(path: Path, name: Path) -> None:
    """Give the file ``path`` a second ``name``: a hard link where the file system has them, else a copy.

    Readers of ``name`` see what it was before or all of ``path``. Replacing ``path`` later leaves ``name`` as
    it is; a file that is written to in place must not be kept so.

    Raises:
        OSError: It cannot be written; the old ``name`` is left as it was, and nothing beside it.
    """
    name.parent.mkdir(parents=True, exist_ok=True)
    with replacing(name) as beside:  # what a killed process left may be a link: a copy would write into it
        try:
            os.link(path, beside)
        except OSError:
            shutil.copyfile(path, beside)
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
        return load_json(path)
    except (OSError, ValueError):
        return {}


def load_json(path: Path) -> dict[str, Any]:
    """Read the object in ``path``; whole numbers too large for a float are infinite.

    Raises:
        OSError: There is no such file, or it cannot be read, is no regular file, or is larger than
            ``LARGEST_JSON``.
        ValueError: It holds no object, or one that is nested too deeply.
    """
    try:
        content = json.loads(read_bytes(path, LARGEST_JSON).decode(), parse_int=_whole)
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is damaged") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} is damaged")
    return content


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        OSError: There is no such file, or it cannot be read, is no regular file, or is larger.
    """
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit / 1e6:g} MB", str(path))
    return content


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read it in binary; a pipe or a device, which might never end, is refused.

    Raises:
        OSError: It cannot be read, or is no regular file.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer blocks
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def _whole(text: str) -> int | float:
    return int(text) if len(text) <= _MOST_DIGITS else float(text)


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
