"""The wire: frames of a JSON header and arrays, joined into one stream of bytes and cut into messages.

A frame is ``<header length, body length> header body``: the header is JSON, the body safetensors. Many small
frames share a message, and a large one is cut over several, so that no message exceeds ``MESSAGE_BYTES``.
Whatever arrives is data: it is parsed, checked against the fields of its kind, and otherwise refused.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lit_rl.nested import named_leaves
from lit_rl.types import NestedArray

PROTOCOL = 1
"""Version of the protocol; both sides must have the same."""
MESSAGE_BYTES = 2_000_000
"""Longest message of a stream: half of what gRPC lets through by default."""
MAX_HEADER_BYTES = 100_000
MAX_FRAME_BYTES = 256_000_000
MAX_ARRAYS = 1_000
_LENGTHS = struct.Struct("<II")
_DTYPES = {"BOOL", "U8", "I8", "I16", "U16", "I32", "U32", "I64", "U64", "F16", "F32", "F64"}

_NUMBER, _TEXT, _FLAG, _PLAIN = (int,), (str,), (bool,), (dict,)
FIELDS: dict[str, dict[str, tuple[type, ...]]] = {
    "chunk": {
        "seq": _NUMBER,
        "version": _NUMBER,
        "num_envs": _NUMBER,
        "at_random": _FLAG,
    },
    "skip": {"seq": _NUMBER},
    "heartbeat": {"produced": _NUMBER},
    "bye": {},
    "credit": {"acknowledged": _NUMBER, "until": _NUMBER, "random_until": _NUMBER},
    "policy": {"version": _NUMBER, "digest": _TEXT, "description": _PLAIN},
    "refused": {"reason": _TEXT},
}
"""Kinds of frames, and what the header of each must say; ``skip``: chunks up to ``seq`` will never come."""


class WireError(ValueError):
    """The protocol does not allow what arrived."""


@dataclass(frozen=True)
class Frame:
    """One message of the protocol.

    Args:
        kind: A key of ``FIELDS``.
        header: Values of the fields that ``FIELDS`` names for this kind, as plain types.
        arrays: Arrays by name; a nested dict has the names ``key/key``.
    """

    kind: str
    header: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the frame as bytes."""
        from safetensors.numpy import save

        header = json.dumps({"kind": self.kind, **self.header}).encode()
        body = save({k: np.ascontiguousarray(v) for k, v in self.arrays.items()}) if self.arrays else b""
        return b"".join((_LENGTHS.pack(len(header), len(body)), header, body))


def decode(header: bytes, body: bytes) -> Frame:
    """Return the frame that these bytes are.

    Raises:
        WireError: They are none, or say something else than the kind of the frame must.
    """
    try:
        said = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise WireError("a header is not JSON") from error
    if not isinstance(said, dict) or not isinstance(kind := said.pop("kind", None), str):
        raise WireError("a header names no kind of frame")
    if kind not in FIELDS:
        raise WireError(f"unknown kind of frame {kind[:40]!r}")
    for name, kinds in FIELDS[kind].items():
        value = said.get(name)
        is_flag = isinstance(value, bool)
        if not isinstance(value, kinds) or (is_flag and bool not in kinds):
            raise WireError(f"frame {kind}: {name} must be {kinds[0].__name__}, got {type(value).__name__}")
        if kinds is _NUMBER and isinstance(value, int) and not 0 <= value < 2**62:
            raise WireError(f"frame {kind}: {name} must be a count, got {str(value)[:30]}")
    return Frame(kind, said, _arrays(body) if body else {})


def _arrays(body: bytes) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(body)
    except (SafetensorError, ValueError, RecursionError) as error:
        raise WireError("the arrays of a frame are not safetensors") from error
    if len(entries) > MAX_ARRAYS:
        raise WireError(f"a frame has {len(entries)} arrays, at most {MAX_ARRAYS} are allowed")
    arrays = {}
    for name, entry in entries:
        if entry["dtype"] not in _DTYPES:
            raise WireError(f"array {name[:60]!r} has the dtype {entry['dtype']}, which is not taken")
        dtype = np.dtype(_numpy_name(entry["dtype"]))
        if math.prod(entry["shape"]) * dtype.itemsize != len(entry["data"]) or len(entry["shape"]) > 32:
            raise WireError(f"array {name[:60]!r} does not fill its shape")
        try:
            arrays[name] = np.frombuffer(entry["data"], dtype).reshape(entry["shape"])
        except (ValueError, OverflowError) as error:  # sizes beyond what numpy can hold, times 0
            raise WireError(f"array {name[:60]!r} has a shape that is not taken") from error
    return arrays


def _numpy_name(dtype: str) -> str:
    if dtype == "BOOL":
        return "bool"
    kind = {"U": "uint", "I": "int", "F": "float"}[dtype[0]]
    return f"{kind}{dtype[1:]}"


def messages(parts: Iterator[bytes] | list[bytes]) -> Iterator[bytes]:
    """Join encoded frames, and cut them into messages of at most ``MESSAGE_BYTES``."""
    gathered: list[bytes] = []
    size = 0
    for part in parts:
        view = memoryview(part)
        while len(view) > MESSAGE_BYTES - size:
            room = MESSAGE_BYTES - size
            yield b"".join((*gathered, view[:room]))
            gathered, size, view = [], 0, view[room:]
        gathered.append(bytes(view) if len(view) != len(part) else part)
        size += len(view)
    if size:
        yield b"".join(gathered)


class FrameReader:
    """Puts the messages of one stream together again.

    Args:
        max_bytes: Longest frame that is taken.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._buffer = bytearray()

    def feed(self, message: bytes) -> list[Frame]:
        """Return the frames that this message completes.

        Raises:
            WireError: They are not what the protocol allows; the stream cannot be read on.
        """
        if not isinstance(message, bytes) or len(message) > MESSAGE_BYTES:
            raise WireError("a message is longer than the protocol allows")
        self._buffer += message
        frames, at = [], 0
        while len(self._buffer) - at >= _LENGTHS.size:
            of_header, of_body = _LENGTHS.unpack_from(self._buffer, at)
            if of_header > MAX_HEADER_BYTES or of_header + of_body > self._max_bytes:
                raise WireError(f"a frame of {of_header + of_body} bytes is longer than {self._max_bytes}")
            start = at + _LENGTHS.size
            middle, end = start + of_header, start + of_header + of_body
            if len(self._buffer) < end:
                break
            with memoryview(self._buffer) as view:
                header, body = bytes(view[start:middle]), bytes(view[middle:end])
            frames.append(decode(header, body))
            at = end
        del self._buffer[:at]
        return frames


def flatten(prefix: str, nested: NestedArray) -> dict[str, np.ndarray]:
    """Name the arrays of a nested dict ``prefix/key/key``; one array alone is named ``prefix``."""
    if not isinstance(nested, dict):
        return {prefix: nested}
    return {f"{prefix}/{path}": leaf for path, leaf in named_leaves(nested)}
