"""Networks of the learners: the encoder's contract, perceptrons, GRU.

Axes: L window steps, B samples, F features, H hidden units; (B) stands for any number of axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.nested import leaves, map_nested
from lit_rl.returns import zero_where
from lit_rl.types import ACTION_MASK, EnvSpec, LeafSpec, Nested

EncoderFactory: TypeAlias = Callable[[EnvSpec], nn.Module]
"""Makes an encoder: the ``class_path`` of a module whose first argument is the ``EnvSpec``."""

Activation: TypeAlias = Literal["tanh", "relu", "elu", "silu"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}


def activation_layer(name: Activation) -> nn.Module:
    """Make a layer of the named activation."""
    return _ACTIVATIONS[name]()


def linear(in_features: int, out_features: int, gain: float) -> nn.Linear:
    """Make a linear layer with orthogonal weights of this gain and zero bias (Saxe 2014, arXiv:1312.6120)."""
    layer = nn.Linear(in_features, out_features)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(sizes: Sequence[int], activation: Activation, out_gain: float) -> nn.Sequential:
    """Make a perceptron through ``sizes``, with gain sqrt(2), and ``out_gain`` in the last layer."""
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        layers.append(linear(fan_in, fan_out, out_gain if last else math.sqrt(2)))
        if not last:
            layers.append(activation_layer(activation))
    return nn.Sequential(*layers)


class Flatten(nn.Module):
    """The default encoder, which makes one vector of all leaves of an observation, discrete ones as one-hot.

    An encoder is any module with ``__init__(spec: EnvSpec, ...)``, ``forward(obs) -> (..., F)`` for any
    leading axes, and the attribute ``out_features`` (F). One that tells joints apart also has ``of_joints``
    and ``of_whole``, which make what follows it (``lit_rl/encoders/tokens/layout.py``). The key
    ``action_mask`` of an observation is never encoded.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        seen = spec.observation
        self._seen = (
            seen if isinstance(seen, LeafSpec) else {k: v for k, v in seen.items() if k != ACTION_MASK}
        )
        self.out_features = sum(map(_leaf_features, leaves(self._seen)))
        if not self.out_features:
            raise ValueError(
                f"{spec.name} observes nothing but an action mask; a policy needs something to see"
            )
        self.is_identity = (
            isinstance(seen, LeafSpec)
            and len(seen.shape) == 1
            and not seen.categories
            and seen.dtype.startswith("float")
        )

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation with leaves ``(..., *shape)`` into features ``(..., F)``."""
        if self.is_identity:
            return obs  # type: ignore[return-value]  # a vector of real numbers is its own feature vector
        return torch.cat(list(leaves(map_nested(_encode_leaf, self._seen, obs))), -1)


def _leaf_features(leaf: LeafSpec) -> int:
    return sum(leaf.categories) if leaf.categories else math.prod(leaf.shape)


def _encode_leaf(leaf: LeafSpec, value: Tensor) -> Tensor:
    axes = len(leaf.shape)
    flat = value.flatten(-axes) if axes else value.unsqueeze(-1)  # (..., entries)
    if not leaf.categories:
        return flat if flat.is_floating_point() else flat.to(torch.get_default_dtype())
    hot = [nn.functional.one_hot(flat[..., i].long(), n) for i, n in enumerate(leaf.categories)]
    return torch.cat(hot, -1).to(torch.get_default_dtype())


class GRUCore(nn.Module):
    """Gated recurrent unit (Cho 2014, arXiv:1406.1078); its state is zeroed where an episode starts."""

    def __init__(self, in_features: int, hidden: int) -> None:
        super().__init__()
        self.cell = nn.GRUCell(in_features, hidden)
        self.hidden = hidden
        for name, parameter in self.cell.named_parameters():
            if name.startswith("weight"):
                nn.init.orthogonal_(parameter)
            else:
                nn.init.zeros_(parameter)

    def step(self, x: Tensor, hidden: Tensor, reset: Tensor) -> Tensor:
        """Take one step.

        Args:
            x: Features, ``(..., F)``.
            hidden: Hidden states before the step, ``(..., H)``.
            reset: Bool, True where an episode starts; its axes are the first ones of ``hidden``.

        Returns:
            Hidden states after the step, ``(..., H)``.
        """
        kept = zero_where(reset, hidden)
        return self.cell(x.flatten(0, -2), kept.flatten(0, -2)).view(kept.shape)

    def forward(self, x_LBF: Tensor, hidden_BH: Tensor, reset_LB: Tensor) -> Tensor:
        """Take L steps from ``hidden_BH``, and return the hidden states after each of them, ``(L, B, H)``."""
        out = []
        hidden = hidden_BH
        for x, reset in zip(x_LBF.unbind(0), reset_LB.unbind(0), strict=True):
            hidden = self.step(x, hidden, reset)
            out.append(hidden)
        return torch.stack(out)


class NumpyMLP:
    """A perceptron evaluated in numpy on the weights of the torch module, for less overhead per step.

    Raises:
        TypeError: The network holds a layer other than Linear, Tanh or ReLU.
    """

    def __init__(self, network: nn.Sequential) -> None:
        if not self.supports(network):
            raise TypeError(f"NumpyMLP evaluates Linear, Tanh and ReLU layers, got {network}")
        self._network = network
        self._first = cast("nn.Linear", network[0])
        self._pointer = 0  # of the weights that were read; Lightning makes networks on a GPU at once

    @staticmethod
    def supports(network: nn.Sequential) -> bool:
        """Tell whether numpy can evaluate every layer."""
        return all(isinstance(layer, nn.Linear | nn.Tanh | nn.ReLU) for layer in network)

    def serves(self, x: Tensor) -> bool:
        """Tell whether numpy computes what torch would: not in autocast, float64, a GPU or a compiler."""
        return (
            x.dtype is torch.float32
            and self._first.weight.dtype is torch.float32
            and x.device.type == "cpu"
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
        )

    def _refresh(self) -> None:
        self._pointer = self._first.weight.data_ptr()
        self._layers: list[tuple[np.ndarray, np.ndarray] | bool] = []
        for layer in self._network:
            if isinstance(layer, nn.Linear):
                self._layers.append((layer.weight.detach().numpy().T, layer.bias.detach().numpy()))
            else:
                self._layers.append(isinstance(layer, nn.Tanh))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Evaluate the network on ``x`` ``(B, F)`` float32; return ``(B, outputs)`` float32."""
        if self._first.weight.data_ptr() != self._pointer:  # flattened, or moved, since the last call
            self._refresh()
        for layer in self._layers:
            if layer is True:
                np.tanh(x, out=x)
            elif layer is False:
                np.maximum(x, 0.0, out=x)
            else:
                x = x @ layer[0]
                x += layer[1]
        return x
