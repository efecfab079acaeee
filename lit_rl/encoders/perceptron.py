"""Encoder for vectors: a perceptron in front of actor and critic, mostly worth it when they share it.

Axes: F features; ... stands for any leading axes.
"""

from __future__ import annotations

from torch import Tensor, nn

from lit_rl.arguments import Width, check_arguments
from lit_rl.nets import Activation, Flatten, activation_layer, mlp
from lit_rl.types import EnvSpec, Nested


class PerceptronEncoder(nn.Module):
    """Flattens an observation (Dict and discrete leaves too) and sends it through hidden layers.

    Args:
        spec: The environment.
        hidden: Widths of the layers; the last one is the number of features.
        activation: Function after every layer.
        layer_norm: Whether each input vector, and the output of every activation, is normalised (Ba 2016,
            arXiv:1607.06450), as in MAPPO's published networks (Yu 2022, arXiv:2103.01955).
    """

    def __init__(
        self,
        spec: EnvSpec,
        hidden: tuple[Width, ...] = (64, 64),
        activation: Activation = "tanh",
        layer_norm: bool = False,
    ) -> None:
        check_arguments(PerceptronEncoder, locals())
        super().__init__()
        if not hidden:
            raise ValueError("PerceptronEncoder: hidden must name at least one width, got an empty list")
        self.flatten = Flatten(spec)
        features = self.flatten.out_features
        layers = [*mlp([features, *hidden], activation, out_gain=2**0.5), activation_layer(activation)]
        if layer_norm:
            pairs = zip(layers[::2], layers[1::2], hidden, strict=True)
            normed = [(linear, act, nn.LayerNorm(width)) for linear, act, width in pairs]
            layers = [nn.LayerNorm(features), *(layer for triple in normed for layer in triple)]
        self.layers = nn.Sequential(*layers)
        self.out_features = hidden[-1]

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation with any leading axes into features ``(..., F)``."""
        return self.layers(self.flatten(obs))
