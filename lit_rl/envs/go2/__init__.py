"""The quadruped Unitree GO2, which learns to walk: simulated by MuJoCo, thousands of robots in one call.

Importing it registers ``GO2-v0`` with Gymnasium. Its classes are loaded on first use, because compiled code
takes a second to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import gymnasium

if TYPE_CHECKING:
    from lit_rl.envs.go2.batch import Go2Batch
    from lit_rl.envs.go2.go2 import Go2, Go2Vector

__all__ = ["Go2", "Go2Batch", "Go2Vector"]

_HOME = {"Go2": "go2", "Go2Batch": "batch", "Go2Vector": "go2"}

if "GO2-v0" not in gymnasium.registry:
    gymnasium.register(
        "GO2-v0",
        entry_point="lit_rl.envs.go2.go2:Go2",
        vector_entry_point="lit_rl.envs.go2.go2:Go2Vector",
    )


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
