"""Critics of off-policy learners, functions Q(observation, action) evaluated together, and their targets.

Axes: C critics, B samples, F features, U action dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn

from lit_rl.checks import check_encoder
from lit_rl.nets import EncoderFactory, Flatten
from lit_rl.types import EnvSpec, Nested

Network = TypeVar("Network", bound=nn.Module)


class StackedMLP(nn.Module):
    """C perceptrons of the same shape with ReLU, evaluated together by one ``baddbmm`` per layer.

    Twin critics cost one batched product instead of two (ensembles as in Chen 2021, arXiv:2101.05982).
    """

    def __init__(self, sizes: Sequence[int], num_networks: int) -> None:
        super().__init__()
        self.num_networks = num_networks
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5
            self.weights.append(
                nn.Parameter(torch.empty(num_networks, fan_in, fan_out).uniform_(-bound, bound))
            )
            self.biases.append(nn.Parameter(torch.empty(num_networks, 1, fan_out).uniform_(-bound, bound)))

    def forward(self, x_BF: Tensor) -> Tensor:
        """Evaluate all networks on ``x_BF``; return ``(C, B, outputs)``."""
        h = x_BF.expand(self.num_networks, -1, -1)  # expand, not repeat: the input is shared
        last = len(self.weights) - 1
        for i in range(last):
            h = torch.baddbmm(self.biases[i], h, self.weights[i]).relu_()
        return torch.baddbmm(self.biases[last], h, self.weights[last])


class Critics(nn.Module):
    """C critics of (observation, action) with one encoder, evaluated in one batched product per layer.

    Args:
        spec: Observation and action of the environment.
        hidden: Widths of the hidden layers.
        encoder: Makes the network in front of the critics; None flattens observations.
        num_critics: Number of critics C.
    """

    def __init__(
        self, spec: EnvSpec, hidden: list[int], encoder: EncoderFactory | None, num_critics: int
    ) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        features = check_encoder(self.encoder)
        self.network = StackedMLP([features + spec.action.size, *hidden, 1], num_critics)

    def forward(self, obs: Nested, action_BU: Tensor) -> Tensor:
        """Compute values (C, B), at least float32, of actions in [-1, 1]."""
        q_CB = self.network(torch.cat([self.encoder(obs), action_BU], -1)).squeeze(-1)
        return q_CB.float() if q_CB.dtype == torch.bfloat16 else q_CB


def target_of(network: Network) -> Network:
    """Copy ``network`` as its target, which is not trained, but follows it by ``FlatParameters.blend_``."""
    return copy.deepcopy(network).requires_grad_(False)
