"""Messages over a pipe: four bytes of length, then JSON. Nothing is ever unpickled."""

from __future__ import annotations

import json
import os
import select
import struct
from typing import Any, TypeAlias

Message: TypeAlias = dict[str, Any]

_HEADER = struct.Struct("<I")
MAX_FRAME_BYTES = 64 * 2**20
"""Longer frames are refused: they can only come from a stream that is out of step."""


def write_frame(fd: int, message: Message) -> None:
    """Write one message.

    Raises:
        OSError: The other side is gone.
    """
    body = json.dumps(message, separators=(",", ":")).encode()
    data = memoryview(_HEADER.pack(len(body)) + body)
    while data:
        data = data[os.write(fd, data) :]


def read_frame(fd: int) -> Message:
    """Wait for one message.

    Raises:
        EOFError: The other side is gone, maybe in the middle of a message.
        ValueError: The bytes are no message.
    """
    (length,) = _HEADER.unpack(_read(fd, _HEADER.size))
    if length > MAX_FRAME_BYTES:
        raise ValueError(f"frame of at most {MAX_FRAME_BYTES} bytes expected, got {length}")
    return json.loads(_read(fd, length))


def is_readable(fd: int, timeout_s: float) -> bool:
    """Whether a message, or the end of the stream, arrives within ``timeout_s``."""
    return bool(select.select([fd], [], [], timeout_s)[0])


def _read(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            raise EOFError(f"the stream ended {size - len(data)} bytes before the end of a frame")
        data += chunk
    return data
