"""Several networks in place of one behind an encoder, mixed by what describes the body.

Axes: F features; ... stands for any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lit_rl.arguments import Number, SmallCount, Width, check_arguments
from lit_rl.checks import check_encoder
from lit_rl.nets import EncoderFactory, Flatten, mlp
from lit_rl.types import EnvSpec, LeafSpec, Nested

Build = Callable[..., nn.Module]
"""Makes a network through the sizes that are its first argument."""


class ExpertsEncoder(nn.Module):
    """Puts K actors (and K critics) behind an encoder, of which a gate takes the mean for each body.

    output = sum over k of g_k(body) * expert_k(features), where g is a softmax, so that bodies that differ
    may be steered by different networks (ECo-MoE, arXiv:2605.24225). Experts are as wide as ``hidden`` of the
    learner says, and actor and critic have gates of their own unless they share the encoder. One expert is
    the network without this encoder, to the bit where observations are Dicts: there is no gate then.

    Args:
        spec: The environment, whose actions belong to joints (``joint_mask``).
        experts: Number K of experts.
        body: What the gate sees: keys of the observation, and of each the first and the number after the last
            entry of its last axis, such as ``{padded: [23, 41], joint_mask: [0, 6]}`` for planar arms of up
            to six joints with ``morph``. It must not change while the body moves.
        gate: Widths of the hidden layers of the gate.
        encoder: Network that makes the features, by its ``class_path``; None flattens.

    Raises:
        ValueError: An argument is outside its range, ``body`` names nothing that is observed, or actions
            belong to no joints.
    """

    def __init__(
        self,
        spec: EnvSpec,
        experts: SmallCount = 4,
        body: Mapping[str, Sequence[Number]] | None = None,
        gate: tuple[Width, ...] = (32,),
        encoder: EncoderFactory | None = None,
    ) -> None:
        check_arguments(ExpertsEncoder, locals())
        super().__init__()
        self.inner = (encoder or Flatten)(spec)
        features = check_encoder(self.inner)
        self.experts = experts
        self.gate: nn.Module | None = None
        if experts > 1:
            if not spec.has_joints:
                raise ValueError(
                    "ExpertsEncoder: experts > 1 needs a box action whose entries belong to joints, as an "
                    f"observation with joint_mask tells; {spec.name} has none (planar arms of one size show "
                    "it with max_joints)"
                )
            self._body = _checked(spec, body or {})
            self.gate = mlp([sum(entries.width for entries in self._body), *gate, experts], "tanh", 0.01)
        self.out_features = features + (experts if experts > 1 else 0)

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation into the weights of the experts and the features, ``(..., experts + F)``."""
        features = self.inner(obs)
        if self.gate is None:
            return features
        return torch.cat([self.weights(obs).to(features.dtype), features], -1)

    def weights(self, obs: Nested) -> Tensor:
        """Return the share of each expert, ``(..., experts)``; they sum to 1."""
        if self.gate is None:
            raise ValueError("ExpertsEncoder: one expert has no gate")
        dtype = next(self.gate.parameters()).dtype
        seen = [of.read(obs).to(dtype) for of in self._body]
        return self.gate(torch.cat(seen, -1)).softmax(-1)

    def of_whole(self, sizes: Sequence[int], *arguments: Any, build: Build = mlp) -> nn.Module:
        """Make the experts that decide about the whole, such as critics; ``mlp`` says what the sizes are."""
        return self._mixed(getattr(self.inner, "of_whole", None), sizes, arguments, build)

    def of_joints(self, sizes: Sequence[int], *arguments: Any, build: Build = mlp) -> nn.Module:
        """Make the experts that decide about joints, such as actors; ``mlp`` says what the sizes are."""
        return self._mixed(getattr(self.inner, "of_joints", None), sizes, arguments, build)

    def _mixed(
        self, inner: Callable[..., nn.Module] | None, sizes: Sequence[int], arguments: Any, build: Build
    ) -> nn.Module:
        def make(of_expert: Sequence[int]) -> nn.Module:
            return inner(of_expert, *arguments, build=build) if inner else build(of_expert, *arguments)

        if self.gate is None:
            return make(sizes)
        if sizes[0] != self.out_features:
            raise ValueError(
                f"ExpertsEncoder tells experts apart by {self.out_features} features, which must reach the "
                f"layers that decide, but {sizes[0]} do: leave gru = null"
            )
        return Mixture([make([sizes[0] - self.experts, *sizes[1:]]) for _ in range(self.experts)])


class Mixture(nn.Module):
    """The weighted mean of the outputs of several networks."""

    def __init__(self, experts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.experts = nn.ModuleList(experts)

    def forward(self, features: Tensor) -> Tensor:
        """Evaluate all networks on ``(..., experts + F)``, whose first entries are their weights."""
        share, seen = features.split([len(self.experts), features.shape[-1] - len(self.experts)], -1)
        outputs = torch.stack([expert(seen) for expert in self.experts], -1)  # (..., outputs, experts)
        return (outputs * share.unsqueeze(-2)).sum(-1)


class Entries(NamedTuple):
    """Entries ``start`` to ``stop`` of the last of the ``axes`` axes of what stands at ``key``."""

    key: str
    start: int
    stop: int
    axes: int
    width: int

    def read(self, obs: Nested) -> Tensor:
        """Return them as a vector ``(..., width)``."""
        return obs[self.key][..., self.start : self.stop].flatten(-self.axes)


def _checked(spec: EnvSpec, body: Mapping[str, Sequence[int]]) -> list[Entries]:
    """Return what the gate sees.

    Raises:
        ValueError: A key is not observed, has no axis, or has no such entries.
    """
    seen = spec.observation if isinstance(spec.observation, dict) else {}
    shapes = {key: leaf.shape for key, leaf in seen.items() if isinstance(leaf, LeafSpec) and leaf.shape}
    if not body:
        raise ValueError(
            "ExpertsEncoder: experts > 1 needs body, the entries of the observation that describe the body, "
            f"such as {{joint_mask: [0, {spec.action.size}]}}; {spec.name} observes {shapes}"
        )
    for key, entries in body.items():
        is_range = len(entries) == 2 and key in shapes and 0 <= entries[0] < entries[1] <= shapes[key][-1]
        if not is_range:
            raise ValueError(
                f"ExpertsEncoder: body must name entries [first, after last] of what is observed, got {key}: "
                f"{list(entries)}; {spec.name} observes {shapes}"
            )
    return [
        Entries(key, start, stop, len(shapes[key]), (stop - start) * math.prod(shapes[key][:-1]))
        for key, (start, stop) in body.items()
    ]
