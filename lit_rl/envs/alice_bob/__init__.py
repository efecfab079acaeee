"""Alice and Bob, the grid with buttons and diamonds of the HMASD paper: batch, PettingZoo class and oracle.

Configurations name its classes by this package; each is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_rl.envs.alice_bob.grid import AliceAndBob
    from lit_rl.envs.alice_bob.oracle import AliceAndBobOracle
    from lit_rl.envs.alice_bob.parallel import AliceAndBobParallel

__all__ = ["AliceAndBob", "AliceAndBobOracle", "AliceAndBobParallel"]

_HOME = {"AliceAndBob": "grid", "AliceAndBobOracle": "oracle", "AliceAndBobParallel": "parallel"}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
