"""Training callbacks, imported as ``lit_rl.callbacks``; each name is loaded on first use.

The modules of this folder hold what a configuration names. What only they need lies below: ``recorder/``
writes losses, ``paper/`` exports data for papers, ``skills/`` counts skills, and ``companions/`` holds the
processes beside the trainer. Loading lazily keeps torch and Lightning out of what a callback starts.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if __name__ == "callbacks":
    raise ImportError("import `lit_rl.callbacks`, not `callbacks`: every class would exist twice")

if TYPE_CHECKING:
    from lit_rl.callbacks.checkpoint import RolloutCheckpoint
    from lit_rl.callbacks.env_step_budget import EnvStepBudget
    from lit_rl.callbacks.episode_stats import EpisodeStats
    from lit_rl.callbacks.graceful_stop import GracefulStop
    from lit_rl.callbacks.learner_stats import LearnerStats
    from lit_rl.callbacks.map_elites import MapElites
    from lit_rl.callbacks.network_loss_logger import NetworkLossLogger
    from lit_rl.callbacks.paper_export import PaperExport
    from lit_rl.callbacks.progress_bar import EnvStepsProgressBar
    from lit_rl.callbacks.skill_usage import SkillUsage
    from lit_rl.callbacks.sync_efficiency import SyncEfficiency
    from lit_rl.callbacks.tensorboard_server import TensorBoardServer
    from lit_rl.callbacks.wandb_run import WandbRun

__all__ = [
    "EnvStepBudget",
    "EnvStepsProgressBar",
    "EpisodeStats",
    "GracefulStop",
    "LearnerStats",
    "MapElites",
    "NetworkLossLogger",
    "PaperExport",
    "RolloutCheckpoint",
    "SkillUsage",
    "SyncEfficiency",
    "TensorBoardServer",
    "WandbRun",
]

_HOME = {
    "EnvStepBudget": "env_step_budget",
    "EnvStepsProgressBar": "progress_bar",
    "EpisodeStats": "episode_stats",
    "GracefulStop": "graceful_stop",
    "LearnerStats": "learner_stats",
    "MapElites": "map_elites",
    "NetworkLossLogger": "network_loss_logger",
    "PaperExport": "paper_export",
    "RolloutCheckpoint": "checkpoint",
    "SkillUsage": "skill_usage",
    "SyncEfficiency": "sync_efficiency",
    "TensorBoardServer": "tensorboard_server",
    "WandbRun": "wandb_run",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
