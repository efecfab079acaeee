"""Reinforcement learning on PyTorch Lightning.

A LightningModule turns a batch of experience into a better policy, a DataModule turns environments into
batches of experience, and callbacks watch both. Each name below is loaded on first use, so that
``import lit_rl`` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_rl.algos.ppo import PPO
    from lit_rl.algos.sac import SAC
    from lit_rl.data.replay import ReplayDataModule
    from lit_rl.data.rollout import RolloutDataModule
    from lit_rl.types import EnvSpec, Policy, VectorEnv

__version__ = "0.1.0"

__all__ = ["PPO", "SAC", "EnvSpec", "Policy", "ReplayDataModule", "RolloutDataModule", "VectorEnv"]

_HOME = {
    "PPO": "algos.ppo",
    "SAC": "algos.sac",
    "EnvSpec": "types",
    "Policy": "types",
    "ReplayDataModule": "data.replay",
    "RolloutDataModule": "data.rollout",
    "VectorEnv": "types",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
