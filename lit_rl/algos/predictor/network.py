"""The network that predicts the next observation and the reward from what an encoder tells.

Axes: B samples, J tokens, W token features, F features; ... stands for any leading axes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from lit_rl.nets import EncoderFactory, Flatten, linear, mlp
from lit_rl.types import JOINT_MASK, EnvSpec, LeafSpec, Nested


class Prediction(NamedTuple):
    """Changes of an observation within one step, and the reward, as predicted or as they were.

    Attributes:
        token: Changes of the features of joints that are told apart (..., J, W); None where there are none.
        rest: Changes of all other features, discrete ones as one-hot (..., F); F may be 0.
        reward: The reward (...).
    """

    token: Tensor | None
    rest: Tensor
    reward: Tensor


class PredictionNetwork(nn.Module):
    """An encoder, and perceptrons that add the action to its features and predict what comes of it.

    Where the encoder tells joints apart, one perceptron sees a joint, what the action does there, and the
    whole. What it makes of a joint, and the mean of what it makes of those that exist, predict the token of
    that joint; the mean and the whole predict the rest.

    Args:
        spec: Observation and action of the environment.
        encoder: Makes the encoder; None flattens.
        hidden: Widths of the hidden layers.
    """

    def __init__(self, spec: EnvSpec, encoder: EncoderFactory | None, hidden: list[int]) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        layout: Any = getattr(self.encoder, "layout", None)
        self.layout = layout if layout is not None and layout.num_joints else None
        self.reader: Any = self.encoder.reader if self.layout is not None else None
        box = spec.action.kind == "box"
        seen = LeafSpec(spec.action.shape, "float32" if box else "int64", spec.action.categories)
        self.action = Flatten(EnvSpec(spec.name, seen, spec.action))
        if layout is None or self.layout is None:
            self.flatten = Flatten(spec)
            inputs = cast("int", self.encoder.out_features) + self.action.out_features
            outputs = self.flatten.out_features
        else:
            self.of_joint = mlp([layout.joint + layout.whole + 1, *hidden], "relu", 2**0.5)
            self.to_token = linear(2 * hidden[-1], self.reader.token_features, 0.1)
            inputs, outputs = layout.whole + hidden[-1], self.reader.context_features
        self.of_rest = mlp([inputs, *hidden, outputs + 1], "relu", 0.1)
        self.num_rest = outputs

    def observed(self, obs: Nested) -> tuple[Tensor | None, Tensor]:
        """Return what is predicted of observations: tokens (B, J, W) or None, and the rest (B, F)."""
        if self.layout is None:
            return None, self.flatten(obs)
        tokens = self.reader(obs)
        return tokens.token, tokens.context

    def forward(self, obs: Nested, action: Tensor) -> Prediction:
        """Predict what comes of ``action`` ``(..., *action shape)``."""
        return self.predict(self.encoder(obs), obs, action)

    def predict(self, features: Tensor, obs: Nested, action: Tensor) -> Prediction:
        """Predict from the features of the encoder, which serve for several actions."""
        flat = self.action(action).to(features.dtype)
        if self.layout is None:
            out = self.of_rest(torch.cat([features, flat], -1))
            return Prediction(None, out[..., :-1], out[..., -1])
        whole, joint = self.layout.split(features)
        around = whole.unsqueeze(-2).expand(*joint.shape[:-1], whole.shape[-1])
        made = self.of_joint(torch.cat([joint, around, flat.unsqueeze(-1)], -1)).relu()
        exists = (obs[JOINT_MASK] != 0).to(made.dtype).unsqueeze(-1)
        mean = (made * exists).sum(-2) / exists.sum(-2).clamp(min=1)
        out = self.of_rest(torch.cat([whole, mean], -1))
        with_mean = torch.cat([made, mean.unsqueeze(-2).expand_as(made)], -1)
        return Prediction(self.to_token(with_mean), out[..., :-1], out[..., -1])
