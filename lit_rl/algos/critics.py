"""Critics of off-policy learners, functions Q(observation, action) evaluated together, and their targets.

Axes: C critics, B samples, F features, U action dimensions, J tokens, W token features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from lit_rl.checks import check_encoder
from lit_rl.nets import EncoderFactory, Flatten
from lit_rl.types import JOINT_MASK, TOKENS, EnvSpec, LeafSpec, Nested

Network = TypeVar("Network", bound=nn.Module)


class StackedMLP(nn.Module):
    """C perceptrons of the same shape with ReLU, evaluated together by one ``baddbmm`` per layer.

    Twin critics cost one batched product instead of two (ensembles as in Chen 2021, arXiv:2101.05982).

    Args:
        sizes: Sizes of the layers, input and output included.
        num_networks: Number of networks C.
        layer_norm: Whether each hidden layer is normalised before its ReLU (Ba 2016, arXiv:1607.06450).
        dropout: Share of the units of each hidden layer that is left out in training, before it is normalised
            (Hiraoka 2022, arXiv:2110.02034).
    """

    def __init__(
        self, sizes: Sequence[int], num_networks: int, layer_norm: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.num_networks, self.dropout = num_networks, dropout
        self.scales, self.shifts = nn.ParameterList(), nn.ParameterList()
        for width in sizes[1:-1] if layer_norm else []:
            self.scales.append(nn.Parameter(torch.ones(num_networks, 1, width)))
            self.shifts.append(nn.Parameter(torch.zeros(num_networks, 1, width)))
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = fan_in**-0.5
            self.weights.append(
                nn.Parameter(torch.empty(num_networks, fan_in, fan_out).uniform_(-bound, bound))
            )
            self.biases.append(nn.Parameter(torch.empty(num_networks, 1, fan_out).uniform_(-bound, bound)))

    def forward(self, x_BF: Tensor, subset_C: Tensor | None = None) -> Tensor:
        """Evaluate all networks on ``x_BF``, or those of a subset; return ``(C, B, outputs)``.

        Args:
            x_BF: The input, which all networks share.
            subset_C: Indices of the networks to evaluate; only these are computed. None takes all.
        """

        def chosen(parameter: Tensor) -> Tensor:
            return parameter if subset_C is None else parameter.index_select(0, subset_C)

        number = self.num_networks if subset_C is None else len(subset_C)
        h = x_BF.expand(number, -1, -1)  # expand, not repeat: the input is shared
        last = len(self.weights) - 1
        for i in range(last):
            h = torch.baddbmm(chosen(self.biases[i]), h, chosen(self.weights[i]))
            if self.dropout > 0:
                h = functional.dropout(h, self.dropout, self.training)
            if len(self.scales):
                normalised = functional.layer_norm(h, h.shape[-1:])
                h = torch.addcmul(chosen(self.shifts[i]), normalised, chosen(self.scales[i]))
            h = h.relu_()
        return torch.baddbmm(chosen(self.biases[last]), h, chosen(self.weights[last]))


class Critics(nn.Module):
    """C critics of (observation, action) with one encoder, evaluated in one batched product per layer.

    Where each entry of an action moves a joint of its own, it is a further feature of the joint's token, so
    that the encoder knows which joint does what; entries of joints that do not exist are not seen.

    Args:
        spec: Observation and action of the environment.
        hidden: Widths of the hidden layers.
        encoder: Makes the network in front of the critics; None flattens observations.
        num_critics: Number of critics C.
        layer_norm: Whether each hidden layer is normalised.
        dropout: Share of the units of each hidden layer that is left out in training.
    """

    def __init__(
        self,
        spec: EnvSpec,
        hidden: list[int],
        encoder: EncoderFactory | None,
        num_critics: int,
        layer_norm: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._has_joints, self._in_tokens = spec.has_joints, _moves_tokens(spec)
        self.encoder = (encoder or Flatten)(_with_action(spec) if self._in_tokens else spec)
        features = check_encoder(self.encoder)
        sizes = [features + (0 if self._in_tokens else spec.action.size), *hidden, 1]
        of_whole = getattr(self.encoder, "of_whole", None) if self._in_tokens else None
        build = partial(StackedMLP, layer_norm=layer_norm, dropout=dropout)
        if of_whole is None:
            self.network = build(sizes, num_critics)
        else:
            self.network = cast("StackedMLP", of_whole(sizes, num_critics, build=build))

    def forward(self, obs: Nested, action_BU: Tensor, subset_C: Tensor | None = None) -> Tensor:
        """Compute values (C, B), at least float32, of actions in [-1, 1].

        Args:
            obs: What the critics see.
            action_BU: The actions.
            subset_C: Indices of the critics that are asked; None asks all.
        """
        if self._has_joints:
            action_BU = action_BU * (obs[JOINT_MASK] != 0)
        if self._in_tokens:
            token_BJW = torch.cat([obs[TOKENS], action_BU.unsqueeze(-1).to(obs[TOKENS].dtype)], -1)
            features = self.encoder(obs | {TOKENS: token_BJW})
        else:
            features = torch.cat([self.encoder(obs), action_BU], -1)
        if isinstance(self.network, StackedMLP):
            q_CB = self.network(features, subset_C).squeeze(-1)
        else:  # what an encoder made evaluates all critics
            q_CB = self.network(features).squeeze(-1)
            q_CB = q_CB if subset_C is None else q_CB.index_select(0, subset_C)
        return q_CB.float() if q_CB.dtype == torch.bfloat16 else q_CB


def _moves_tokens(spec: EnvSpec) -> bool:
    """Tell whether each entry of an action moves a part with a token of its own."""
    tokens = spec.observation.get(TOKENS) if isinstance(spec.observation, dict) else None
    return spec.has_joints and isinstance(tokens, LeafSpec) and tokens.shape[:1] == [spec.action.size]


def _with_action(spec: EnvSpec) -> EnvSpec:
    """Add one feature to each token of a spec, for what the action does there."""
    seen = cast("dict[str, LeafSpec]", spec.observation)
    joints, features = seen[TOKENS].shape
    return replace(spec, observation=seen | {TOKENS: replace(seen[TOKENS], shape=[joints, features + 1])})


def target_of(network: Network) -> Network:
    """Copy ``network`` as its target, which is not trained, but follows it by ``FlatParameters.blend_``."""
    return copy.deepcopy(network).requires_grad_(False)
