"""Reads the parts of a thing out of an observation, and puts the features of its leading axes back in place.

Axes: B samples, J tokens, W token features, S state features, F features; (B) joins all leading axes of an
observation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from lit_rl.nets import Flatten
from lit_rl.types import ACTION_MASK, JOINT_MASK, LINKS, TOKENS, EnvSpec, LeafSpec, Nested

ReaderFactory: TypeAlias = Callable[[EnvSpec], nn.Module]
"""Makes a reader: the ``class_path`` of a module whose first argument is the ``EnvSpec``."""


class Tokens(NamedTuple):
    """What encoders of parts see of an observation.

    Attributes:
        token: Features of each part (B, J, W); zeros for parts that do not exist, whatever stood there.
        exists: Which parts exist, bool (B, J).
        context: What is about the whole (B, S); S may be 0.
        links: Which part is whose parent, bool (B, J, J), True at [parent, child]. None is a chain, in which
            each part is the parent of the next one.
        lead: Sizes of the leading axes of the observation.
    """

    token: Tensor
    exists: Tensor
    context: Tensor
    links: Tensor | None
    lead: tuple[int, ...]


class TokenReader(nn.Module):
    """Reads ``joint_tokens``, ``joint_mask`` and ``joint_links`` of a Dict; the rest is the context.

    Only ``joint_tokens`` is needed. Without ``joint_mask`` all parts exist, without ``joint_links`` they are
    a chain.

    Args:
        spec: The environment.

    Attributes:
        num_tokens: Number of parts J.
        token_features: Number W of their features.
        context_features: Number S of features of the whole.
        moves_tokens: Whether each entry of an action moves one part.

    Raises:
        ValueError: The observation has no such keys, or their shapes disagree.
    """

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        seen = spec.observation if isinstance(spec.observation, dict) else {}
        leaf = seen.get(TOKENS)
        if not isinstance(leaf, LeafSpec) or len(leaf.shape) != 2:
            raise ValueError(
                f"this encoder expects a Dict observation with {TOKENS!r} of shape (parts, features), "
                f"{spec.name} observes {spec.observation}; give reader lit_rl.encoders.entities.EntityReader "
                "to cut a vector into parts"
            )
        self.num_tokens, self.token_features = leaf.shape
        self.has_mask, self.has_links = JOINT_MASK in seen, LINKS in seen
        for key, axes in ((JOINT_MASK, 1), (LINKS, 2)):
            shape = [self.num_tokens] * axes
            if key in seen and getattr(seen[key], "shape", None) != shape:
                raise ValueError(
                    f"{spec.name}: observation[{key!r}] must have shape {shape}, as there are "
                    f"{self.num_tokens} {TOKENS}; it is {seen[key]}"
                )
        self.moves_tokens = spec.has_joints and spec.action.size == self.num_tokens
        rest = {key: value for key, value in seen.items() if key not in (TOKENS, JOINT_MASK, LINKS)}
        self.flatten = Flatten(replace(spec, observation=rest)) if rest.keys() - {ACTION_MASK} else None
        self.context_features = 0 if self.flatten is None else self.flatten.out_features

    def forward(self, obs: Nested) -> Tokens:
        """Read an observation, leaves (..., *shape)."""
        token = obs[TOKENS]
        lead, parts = token.shape[:-2], self.num_tokens
        token = token.reshape(-1, parts, self.token_features)
        if self.has_mask:
            exists = obs[JOINT_MASK].reshape(-1, parts) != 0
            token = token.masked_fill(~exists.unsqueeze(-1), 0.0)
        else:
            exists = torch.ones(token.shape[:2], dtype=torch.bool, device=token.device)
        links = obs[LINKS].reshape(-1, parts, parts) != 0 if self.has_links else None
        if self.flatten is None:
            context = token.new_zeros(len(token), 0)
        else:
            context = self.flatten(obs).reshape(-1, self.context_features).to(token.dtype)
        return Tokens(token, exists, context, links, tuple(lead))


def restore(features: Tensor, lead: tuple[int, ...]) -> Tensor:
    """Give features (B, F) the leading axes that an observation had, (..., F)."""
    return features.reshape(*lead, features.shape[-1])


def width_of(module: nn.Module, name: str) -> int:
    """Return a size that a reader, given by its ``class_path``, tells."""
    size: Any = getattr(module, name, None)
    if not isinstance(size, int):
        raise TypeError(
            f"reader: {type(module).__name__} must have the attribute {name}, a number; it has {size!r}"
        )
    return size
