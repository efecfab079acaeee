"""Reinforcement learning on PyTorch Lightning.

A LightningModule turns a batch of experience into a better policy, a DataModule turns environments into
batches of experience, and callbacks watch both. Each name below is loaded on first use, so that
``import lit_rl`` stays instant.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_rl.algos.export import export_policy, load_policy
    from lit_rl.algos.hmasd.hmasd import HMASD
    from lit_rl.algos.numpy_policy import load
    from lit_rl.algos.population.population_ppo import PopulationPPO
    from lit_rl.algos.ppo.ppo import PPO
    from lit_rl.algos.predictor.predictive_ppo import PredictivePPO
    from lit_rl.algos.predictor.predictor import Predictor
    from lit_rl.algos.sac.sac import SAC
    from lit_rl.algos.td3.td3 import TD3
    from lit_rl.collect.evaluate import evaluate
    from lit_rl.collect.uniform import UniformPolicy
    from lit_rl.data.morphology import MorphologyDataModule
    from lit_rl.data.remote import RemoteReplayDataModule
    from lit_rl.data.replay import ReplayDataModule
    from lit_rl.data.rollout import RolloutDataModule
    from lit_rl.envs.check import check_env
    from lit_rl.envs.check_vector import check_vector_env
    from lit_rl.envs.vector import make_vector_env
    from lit_rl.types import Decision, EnvSpec, Policy, VectorEnv

__version__ = "0.1.0"

__all__ = [
    "HMASD",
    "PPO",
    "SAC",
    "TD3",
    "Decision",
    "EnvSpec",
    "MorphologyDataModule",
    "Policy",
    "PopulationPPO",
    "PredictivePPO",
    "Predictor",
    "RemoteReplayDataModule",
    "ReplayDataModule",
    "RolloutDataModule",
    "UniformPolicy",
    "VectorEnv",
    "check_env",
    "check_vector_env",
    "evaluate",
    "export_policy",
    "load",
    "load_policy",
    "make_vector_env",
]

_HOME = {
    "HMASD": "algos.hmasd.hmasd",
    "PPO": "algos.ppo.ppo",
    "SAC": "algos.sac.sac",
    "TD3": "algos.td3.td3",
    "Decision": "types",
    "EnvSpec": "types",
    "MorphologyDataModule": "data.morphology",
    "Policy": "types",
    "PopulationPPO": "algos.population.population_ppo",
    "PredictivePPO": "algos.predictor.predictive_ppo",
    "Predictor": "algos.predictor.predictor",
    "RemoteReplayDataModule": "data.remote",
    "ReplayDataModule": "data.replay",
    "RolloutDataModule": "data.rollout",
    "UniformPolicy": "collect.uniform",
    "VectorEnv": "types",
    "check_env": "envs.check",
    "check_vector_env": "envs.check_vector",
    "evaluate": "collect.evaluate",
    "export_policy": "algos.export",
    "load": "algos.numpy_policy",
    "load_policy": "algos.export",
    "make_vector_env": "envs.vector",
}


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
