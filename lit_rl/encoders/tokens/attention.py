"""Attention among the parts that exist and the whole.

Axes: B samples, J tokens, H hidden units.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.encoders.tokens.graph import chain, hop_distance, neighbours
from lit_rl.encoders.tokens.reader import Tokens


class DistanceBias(nn.Module):
    """A learned term of each head for the links between two parts, which is added to their attention.

    A part sees the whole, and the whole a part, by terms of their own. Parts that do not exist are not seen.

    Args:
        num_tokens: Number J of parts.
        heads: Number of heads.
        max_distance: Number of links from which on all parts count as equally far.
    """

    chain: Tensor
    chain_bucket: Tensor

    def __init__(self, num_tokens: int, heads: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.zeros(heads, max_distance + 3))
        self.register_buffer("chain", chain(num_tokens), persistent=False)
        distance = hop_distance(self.chain | self.chain.mT, max_distance)
        self.register_buffer("chain_bucket", self._with_whole(distance), persistent=False)

    def _with_whole(self, distance_BJJ: Tensor) -> Tensor:
        """Add the whole in front of the parts: 0 links from itself, and further entries of the table."""
        to_whole = F.pad(distance_BJJ, (1, 0), value=self.max_distance + 1)
        bucket = F.pad(to_whole, (0, 0, 1, 0), value=self.max_distance + 2)
        bucket[..., 0, 0] = 0
        return bucket

    def forward(self, tokens: Tokens) -> Tensor:
        """Return what is added to the attention of query to key, (B, heads, J+1, J+1); -inf hides a key."""
        if tokens.links is None:
            bias = self.table[:, self.chain_bucket].unsqueeze(0)
        else:
            bucket = self._with_whole(hop_distance(neighbours(tokens, self.chain), self.max_distance))
            bias = self.table[:, bucket].transpose(0, 1)
        hidden = F.pad(~tokens.exists, (1, 0), value=False)[:, None, None]
        return bias.masked_fill(hidden, -torch.inf)


class AttentionBlock(nn.Module):
    """Self-attention, then a perceptron; each is added to its input, which is normalised first (pre-norm).

    It has no dropout, because an action that is replayed must have the probability with which it was taken.

    Args:
        width: Number H of features of a token.
        heads: Number of heads, which must divide ``width``.
        feedforward: Hidden units of the perceptron.
    """

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention, self.norm_perceptron = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, feedforward), nn.GELU(), nn.Linear(feedforward, width)
        )

    def forward(self, x_BJH: Tensor, bias: Tensor) -> Tensor:
        """Transform tokens (B, J, H), with ``bias`` (B, heads, J, J) on their attention."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.query_key_value(self.norm_attention(x_BJH)).chunk(3, -1)
        )
        # not torch's scaled_dot_product_attention: with gradients it takes another route than without, and
        # an action that is replayed would not have exactly the probability with which it was taken
        score = query @ key.mT * (query.shape[-1] ** -0.5) + bias
        found = score.softmax(-1).to(value.dtype) @ value
        x = x_BJH + self.out(found.transpose(1, 2).flatten(-2))
        return x + self.perceptron(self.norm_perceptron(x))


class Embedding(nn.Module):
    """Turns parts and the whole into J + 1 vectors of one length; the whole comes first.

    Args:
        token_features: Features of a part.
        context_features: Features of the whole; where there are none it begins as a learned vector.
        width: Length H of the vectors.
    """

    def __init__(self, token_features: int, context_features: int, width: int) -> None:
        super().__init__()
        self.of_token = nn.Linear(token_features, width)
        self.of_context = nn.Linear(context_features, width) if context_features else None
        self.whole = None if context_features else nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, tokens: Tokens) -> Tensor:
        """Return the vectors (B, J+1, H)."""
        token = self.of_token(tokens.token)
        if self.of_context is not None:
            whole = self.of_context(tokens.context)
        else:
            whole = cast("Tensor", self.whole).expand(len(token), -1)
        return torch.cat([whole.to(token.dtype).unsqueeze(1), token], 1)
