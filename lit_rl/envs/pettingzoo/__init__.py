"""Environments of several agents with PettingZoo's parallel interface, seen as a ``VectorEnv``.

Configurations name the adapter ``ParallelVectorEnv`` by this package; it is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv

__all__ = ["ParallelVectorEnv"]

_HOME = {"ParallelVectorEnv": "vector"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
