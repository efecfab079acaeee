"""The stochastic actor of SAC: a normal distribution squashed by tanh (Haarnoja 2018, arXiv:1812.05905).

Axes: B samples, U action dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from lit_rl.nested import cast_floats
from lit_rl.nets import Activation, EncoderFactory, Flatten, NumpyMLP, activation_layer
from lit_rl.types import EnvSpec, Nested

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


def default_init_mlp(sizes: Sequence[int], activation: Activation) -> nn.Sequential:
    """Make a perceptron through ``sizes`` with PyTorch's own initialisation, as the published SAC has it."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation_layer(activation)]
    return nn.Sequential(*layers[:-1])


class SoftActor(nn.Module):
    """Turns an observation into mean and log standard deviation of a normal that is squashed by tanh."""

    def __init__(self, spec: EnvSpec, hidden: list[int], encoder: EncoderFactory | None) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        self.size = spec.action.size
        self.network = default_init_mlp(
            [cast("int", self.encoder.out_features), *hidden, 2 * self.size], "relu"
        )
        plain = isinstance(self.encoder, Flatten) and self.encoder.is_identity
        self._numpy_network = NumpyMLP(self.network) if plain else None

    def forward(self, obs: Nested) -> tuple[Tensor, Tensor]:
        """Compute mean and log standard deviation, each (B, U), at least float32."""
        return self._split(self.network(self.encoder(obs)))

    def fast(self, obs: Nested) -> tuple[Tensor, Tensor]:
        """Evaluate the actor for acting, in numpy where that gives the same numbers as torch."""
        if self._numpy_network is not None and self._numpy_network.serves(obs):
            return self._split(torch.from_numpy(self._numpy_network(obs.numpy())))
        return self(cast_floats(obs, next(self.network.parameters()).dtype))

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        outputs = outputs.float() if outputs.dtype == torch.bfloat16 else outputs
        mean, log_std = outputs.chunk(2, -1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
