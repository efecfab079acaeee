"""Files that are complete or not there at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def unfinished(path: Path) -> Path:
    """Where to write before :meth:`Path.replace` puts it in place."""
    return path.with_name(f".{path.name}.unfinished")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write strict JSON atomically: NaN and infinities become ``"nan"``, ``"inf"`` and ``"-inf"``.

    Raises:
        OSError: It cannot be written; the old file is left as it was.
    """
    temporary = unfinished(path)
    try:
        text = json.dumps(_strict(content), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
