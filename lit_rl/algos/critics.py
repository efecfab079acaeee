"""Critics of off-policy learners: Q(observation, action), C of them evaluated together, and their targets.

Axes: B transitions, C critics, U action dimensions.
"""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from lit_rl.nets import EncoderFactory, Flatten, StackedMLP
from lit_rl.types import EnvSpec, Nested

Network = TypeVar("Network", bound=nn.Module)


class Critics(nn.Module):
    """C critics of (observation, action) with one encoder, evaluated in one batched product per layer.

    Args:
        spec: What the environment shows and takes.
        hidden: Widths of the hidden layers.
        encoder: Builds the network in front; None flattens observations.
        num_critics: C.
    """

    def __init__(
        self, spec: EnvSpec, hidden: list[int], encoder: EncoderFactory | None, num_critics: int
    ) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        features = cast("int", self.encoder.out_features)
        self.network = StackedMLP([features + spec.action.size, *hidden, 1], num_critics)

    def forward(self, obs: Nested, action_BU: Tensor) -> Tensor:
        """Values (C, B), at least float32; actions in [-1, 1]."""
        q_CB = self.network(torch.cat([self.encoder(obs), action_BU], -1)).squeeze(-1)
        return q_CB.float() if q_CB.dtype == torch.bfloat16 else q_CB


def target_of(network: Network) -> Network:
    """A copy of ``network`` that is not trained but follows it, blended in by ``FlatParameters.blend_``."""
    return copy.deepcopy(network).requires_grad_(False)
