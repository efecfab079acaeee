"""Cuts a vector into the parts that it lists, such as the peers and users that a UAV sees.

Axes: B samples, J tokens, W token features, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.arguments import Count, Number, Positive, check_arguments
from lit_rl.encoders.tokens.reader import Tokens
from lit_rl.nested import named_leaves
from lit_rl.nets import Flatten
from lit_rl.types import EnvSpec, LeafSpec, Nested


class EntityReader(nn.Module):
    """Reads parts out of a vector, for encoders of parts (``reader``).

    The vector is ``[own | group | group | ... | rest]``; a group is a number of parts with equally many
    features. Own and rest are about the whole, and so is whatever else a Dict observation holds (skills, the
    number of an agent). Parts get the features of the largest group, filled up with zeros, and a one-hot
    vector of their group.

    What a UAV of ``UAVNetwork`` sees at the defaults, 4 peers and 10 users within 300 of 1,000 m::

        EntityReader(spec, own=17, groups=[(4, 7), (10, 4)], radius=0.3)

    and its global state, 5 UAVs, 50 users and a gateway: ``groups=[(5, 9), (50, 4), (1, 3)]``.

    Args:
        spec: The environment.
        groups: Number of parts and number of their features, of each group.
        own: Number of features before the first group.
        radius: Parts whose positions, their first two features, lie closer together are linked to each other.
            None links no parts; graph networks then pass messages over the whole.

    Attributes:
        num_tokens: Number of parts J.
        token_features: Number W of their features.
        context_features: Number of features of the whole.
        moves_tokens: False, as actions do not move parts.

    Raises:
        ValueError: The vector is shorter than what it should be cut into, or the observation holds no single
            vector.
    """

    moves_tokens = False

    def __init__(
        self,
        spec: EnvSpec,
        groups: Sequence[tuple[Count, Count]],
        own: Number = 0,
        radius: Positive | None = None,
    ) -> None:
        check_arguments(EntityReader, locals())
        super().__init__()
        vectors = _vectors(spec.observation)
        cut = own + sum(number * features for number, features in groups)
        fitting = [path for path, leaf in vectors.items() if leaf.shape[0] >= cut]
        if len(fitting) != 1 or not groups:
            sizes = {path or "observation": leaf.shape[0] for path, leaf in vectors.items()}
            raise ValueError(
                f"EntityReader: own = {own} and groups = {[tuple(group) for group in groups]} need one "
                f"vector of at least {cut} features, {spec.name} observes vectors of {sizes}"
            )
        (self.path,) = fitting
        self.own, self.groups, self.radius = own, [tuple(group) for group in groups], radius
        size = vectors[self.path].shape[0]
        largest = max(features for _, features in self.groups)
        self.num_tokens = sum(number for number, _ in self.groups)
        self.token_features = largest + len(self.groups)
        rest = _without(spec.observation, self.path)
        self.flatten = Flatten(EnvSpec(spec.name, rest, spec.action)) if rest else None
        others = 0 if self.flatten is None else self.flatten.out_features
        self.context_features = size - (cut - own) + others
        self.cuts = [own, *(number * features for number, features in self.groups), size - cut]

    def forward(self, obs: Nested) -> Tokens:
        """Read an observation, leaves (..., *shape)."""
        vector = dict(named_leaves(obs))[self.path]
        lead = tuple(vector.shape[:-1])
        own, *groups, rest = vector.reshape(-1, vector.shape[-1]).split(self.cuts, -1)
        largest, kinds = self.token_features - len(self.groups), len(self.groups)
        parts = []
        for kind, (group, (number, features)) in enumerate(zip(groups, self.groups, strict=True)):
            part = F.pad(group.reshape(-1, number, features), (0, largest - features + kinds))
            part[..., largest + kind] = 1.0
            parts.append(part)
        token_BJW = torch.cat(parts, 1)
        context = [own, rest]
        if self.flatten is not None:
            context.append(self.flatten(obs).reshape(len(own), self.flatten.out_features).to(own.dtype))
        exists = torch.ones(token_BJW.shape[:2], dtype=torch.bool, device=token_BJW.device)
        return Tokens(token_BJW, exists, torch.cat(context, -1), self._links(token_BJW), lead)

    def _links(self, token_BJW: Tensor) -> Tensor:
        """Link parts that are close to each other, bool (B, J, J)."""
        if self.radius is None:
            return torch.zeros(
                *token_BJW.shape[:2], self.num_tokens, dtype=torch.bool, device=token_BJW.device
            )
        position = token_BJW[..., :2]
        gap = (position.unsqueeze(2) - position.unsqueeze(1)).square().sum(-1)
        itself = torch.eye(self.num_tokens, dtype=torch.bool, device=gap.device)
        return (gap < self.radius**2) & ~itself


def _vectors(observation: LeafSpec | dict[str, Any]) -> dict[str, LeafSpec]:
    """Find the vectors of real numbers among the leaves of an observation, by their paths."""
    return {
        path: leaf
        for path, leaf in named_leaves(observation)
        if len(leaf.shape) == 1 and not leaf.categories and "/" not in path
    }


def _without(observation: LeafSpec | dict[str, Any], key: str) -> dict[str, Any]:
    """Leave out the vector from a spec."""
    return {} if isinstance(observation, LeafSpec) else {k: v for k, v in observation.items() if k != key}
