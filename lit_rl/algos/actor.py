"""The actor of off-policy learners: a perceptron that acts in numpy where that is faster.

Axes: B samples, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_rl.checks import check_encoder
from lit_rl.nested import cast_floats
from lit_rl.nets import Activation, EncoderFactory, Flatten, NumpyMLP, activation_layer
from lit_rl.types import EnvSpec, Nested


def default_init_mlp(sizes: Sequence[int], activation: Activation) -> nn.Sequential:
    """Make a perceptron through ``sizes`` with PyTorch's own initialisation, as SAC and TD3 are published."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), activation_layer(activation)]
    return nn.Sequential(*layers[:-1])


class Actor(nn.Module):
    """Turns an observation into what a policy acts by.

    Args:
        spec: Observation and action of the environment.
        hidden: Widths of the hidden layers.
        encoder: Makes the network in front of the perceptron; None flattens observations.
        num_outputs: Size F of the last layer.
        head: Turns the last layer (B, F), at least float32, into what the actor returns: ``torch.tanh`` of a
            deterministic policy, ``mean_and_log_std`` of SAC.
    """

    def __init__(
        self,
        spec: EnvSpec,
        hidden: list[int],
        encoder: EncoderFactory | None,
        num_outputs: int,
        head: Callable[[Tensor], Any],
    ) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        features = check_encoder(self.encoder)
        of_joints = getattr(self.encoder, "of_joints", None) if spec.has_joints else None
        sizes = [features, *hidden, num_outputs]
        if of_joints is None:
            self.network = default_init_mlp(sizes, "relu")
        else:  # one perceptron, which decides joint by joint
            self.network = cast("nn.Sequential", of_joints(sizes, "relu", build=default_init_mlp))
        self._head = head
        plain = isinstance(self.encoder, Flatten) and self.encoder.is_identity
        self._numpy_network = NumpyMLP(self.network) if plain else None

    @property
    def last(self) -> nn.Linear:
        """The last layer."""
        return [module for module in self.network.modules() if isinstance(module, nn.Linear)][-1]

    def forward(self, obs: Nested) -> Any:
        """Compute what the head makes of the last layer, (B, F)."""
        outputs = self.network(self.encoder(obs))
        return self._head(outputs.float() if outputs.dtype == torch.bfloat16 else outputs)

    def fast(self, obs: Nested) -> Any:
        """Evaluate the actor for acting, in numpy where that gives the same numbers as torch."""
        if self._numpy_network is not None and self._numpy_network.serves(obs):
            return self._head(torch.from_numpy(self._numpy_network(obs.numpy())))
        return self(cast_floats(obs, next(self.network.parameters()).dtype))
