"""Training callbacks, imported as ``lit_rl.callbacks``; each name is loaded on first use.

Loading lazily keeps torch and Lightning out of processes that a callback spawns.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if __name__ == "callbacks":
    raise ImportError("import `lit_rl.callbacks`, not `callbacks`: every class would exist twice")

if TYPE_CHECKING:
    from lit_rl.callbacks.checkpoint import RolloutCheckpoint
    from lit_rl.callbacks.env_step_budget import EnvStepBudget
    from lit_rl.callbacks.graceful_stop import GracefulStop
    from lit_rl.callbacks.progress_bar import EnvStepsProgressBar

__all__ = ["EnvStepBudget", "EnvStepsProgressBar", "GracefulStop", "RolloutCheckpoint"]

_HOME = {
    "EnvStepBudget": "env_step_budget",
    "EnvStepsProgressBar": "progress_bar",
    "GracefulStop": "graceful_stop",
    "RolloutCheckpoint": "checkpoint",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
