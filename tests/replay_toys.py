"""Replayed transitions made by hand, for tests of off-policy learners."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import nn

from lit_rl.algos.critics import StackedMLP
from lit_rl.algos.module import RLModule
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, ReplayBatch
from tests.toys import make_trainer

SPEC = EnvSpec("Toy-v0", LeafSpec([3]), ActionSpec("box", [2], low=[-2.0, 0.0], high=[2.0, 10.0]))


def make_batch(num_updates: int = 1, batch_size: int = 16) -> ReplayBatch:
    """Random transitions of ``SPEC``: M minibatches of B."""
    shape = (num_updates, batch_size)
    none_ended = torch.empty(0)
    return {
        "obs": torch.randn(*shape, 3),
        "action": torch.rand(*shape, 2) * torch.tensor([4.0, 10.0]) - torch.tensor([2.0, 0.0]),
        "reward": torch.randn(shape),
        "next_obs": torch.randn(*shape, 3),
        "discount": torch.where(torch.rand(shape) < 0.3, 0.0, 0.9),
        "new_obs": torch.randn(8, 3),
        "new_steps": 8,
        "num_envs": 1,
        "random_steps": 0,
        "replay_size": 100,
        "metrics": {},
        "episodes": {
            "episode_return": none_ended,
            "episode_length": none_ended,
            "env_index": none_ended,
            "end_step": none_ended,
            "action_norm": none_ended,
            "values": {},
            "last_values": {},
        },
        "policy_version": 0,
        "collector": {},
        "collect_s": 0.0,
        "env_s": 0.0,
        "sample_s": 0.0,
    }


class Line(gymnasium.Env):
    """A bandit whose reward is the action, between 0 and 10."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(0, 10, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        return np.zeros(1, np.float32), float(action[0]), True, False, {}


class OneBatch:
    """A loader of batches that were made beforehand."""

    def __init__(self, *batches: ReplayBatch) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Any:
        return iter(self.batches)


def train(module: RLModule, *batches: ReplayBatch) -> None:
    """Fit to ``batches``; the updates draw their noise from seed 7 on."""
    torch.manual_seed(7)
    make_trainer().fit(module, train_dataloaders=OneBatch(*batches), val_dataloaders=OneBatch())


def unstacked(stacked: StackedMLP, c: int) -> nn.Sequential:
    """A copy of one of the stacked networks, as an ordinary perceptron."""
    layers: list[nn.Module] = []
    for i, (weight, bias) in enumerate(zip(stacked.weights, stacked.biases, strict=True)):
        layer = nn.Linear(*weight.shape[1:])
        layer.weight.data, layer.bias.data = weight[c].T.detach().clone(), bias[c, 0].detach().clone()
        layers.append(layer)
        if i < len(stacked.scales):
            norm = nn.LayerNorm(weight.shape[-1])
            norm.weight.data, norm.bias.data = (
                part[i][c, 0].detach().clone() for part in (stacked.scales, stacked.shifts)
            )
            layers.append(norm)
        layers.append(nn.ReLU())
    return nn.Sequential(*layers[:-1])
