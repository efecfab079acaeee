"""Reads ``.wandb`` files back, as ``wandb sync`` would: a LevelDB log of protocol buffers."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2 as wandb_records

_BLOCK = 32768
_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_FULL, _FIRST, _LAST = 1, 2, 4


@dataclass
class WandbFile:
    """What a run recorded.

    ``rows`` are without the values that W&B adds (``_step``, ``_timestamp`` ...). ``axes`` maps what
    ``define_metric`` was told (a name, or a pattern such as ``actor/*``) to the axis, "" where it has none.
    ``exit_code`` is None for a run that was cut off.
    """

    id: str = ""
    project: str = ""
    name: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    exit_code: int | None = None

    def column(self, name: str) -> list[float]:
        """All values of one name."""
        return [row[name] for row in self.rows if name in row]


def find(directory: Path) -> list[Path]:
    """The files of all runs in a run directory, oldest first."""
    return sorted(directory.glob("wandb/*run-*/*.wandb"))


def read(path: Path) -> WandbFile:
    """Everything that is complete in the file."""
    result = WandbFile()
    for data in _payloads(path.read_bytes()):
        record = wandb_records.Record.FromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = record.run
            result.id, result.project, result.name = run.run_id, run.project, run.display_name
            result.group, result.job_type, result.notes = run.run_group, run.job_type, run.notes
            result.tags = list(run.tags)
            result.config |= _items(run.config.update)
        elif kind == "config":
            result.config |= _items(record.config.update)
        elif kind == "metric":
            result.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "history":
            row = _items(record.history.item)
            result.rows.append({key: value for key, value in row.items() if not key.startswith("_")})
        elif kind == "exit":
            result.exit_code = record.exit.exit_code
    return result


def _items(items: Any) -> dict[str, Any]:
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def _payloads(data: bytes) -> Iterator[bytes]:
    """Records of the log; a torn tail, as a killed process leaves it, ends it."""
    assert data[:4] == b":W&B", data[:8]
    position, parts = 7, b""
    while position + _HEADER.size <= len(data):
        left_in_block = _BLOCK - position % _BLOCK
        if left_in_block < _HEADER.size:
            position += left_in_block
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if kind == 0 or position + length > len(data):
            return
        parts = (b"" if kind in (_FULL, _FIRST) else parts) + data[position : position + length]
        position += length
        if kind in (_FULL, _LAST):
            yield parts
