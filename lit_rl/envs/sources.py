"""The cache of numba must know the state of all files that are compiled together."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest_of_sources(file: str) -> str:
    """Name the state of all files that are compiled together.

    Numba compiles a function anew when its own file changes, but not when a function that it calls does. A
    compiled function that names this digest changes with any of them.

    Args:
        file: ``__file__`` of a module. All files of its folder count, and those that environments share.
    """
    shared = Path(__file__).parent
    found = hashlib.sha256()
    common = (shared / name for name in ("compiled.py", "jit.py", "streams.py"))
    for path in (*sorted(Path(file).parent.glob("*.py")), *common):
        found.update(path.read_bytes())
    return found.hexdigest()
