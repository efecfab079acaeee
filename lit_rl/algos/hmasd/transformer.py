"""The attention blocks of the skill coordinator, as in the Multi-Agent Transformer (Wen 2022, 2205.14953).

Axes: B samples, J tokens, W token features; (B) stands for any number of axes.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.nets import linear

_WEAK, _STRONG = 0.01, math.sqrt(2)
"""Gains of the initial weights: weak ones leave a block near the identity, strong ones stand before a
GELU."""


class Attention(nn.Module):
    """Multi-head attention (Vaswani 2017, arXiv:1706.03762).

    It has no dropout, because a decision that is replayed must have the probability with which it was made.

    Args:
        width: Number of features W of a token.
        heads: Number of heads, which must divide ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (linear(width, width, _WEAK) for _ in range(4))

    def forward(self, query_BJW: Tensor, source_BJW: Tensor, is_causal: bool) -> Tensor:
        """Return what each query token finds in the source, (B, J, W); if causal, token i sees 0 to i."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for layer, x in (
                (self.query, query_BJW),
                (self.key, source_BJW),
                (self.value, source_BJW),
            )
        )
        found = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.out(found.transpose(-3, -2).flatten(-2))


class EncoderBlock(nn.Module):
    """Self-attention over all tokens, then a perceptron; each is added to its input and normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.perceptron = Attention(width, heads), _perceptron(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x_BJW: Tensor) -> Tensor:
        """Transform tokens (B, J, W) into tokens of the same shape."""
        x = self.norms[0](x_BJW + self.attention(x_BJW, x_BJW, is_causal=False))
        return self.norms[1](x + self.perceptron(x))


class DecoderBlock(nn.Module):
    """Causal self-attention over decided skills, attention of the encoder's tokens to them, a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.cross = Attention(width, heads), Attention(width, heads)
        self.perceptron = _perceptron(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x_BJW: Tensor, encoded_BJW: Tensor) -> Tensor:
        """Transform decided skills and the encoder's tokens into tokens, all of them (B, J, W)."""
        x = self.norms[0](x_BJW + self.own(x_BJW, x_BJW, is_causal=True))
        x = self.norms[1](encoded_BJW + self.cross(encoded_BJW, x, is_causal=True))
        return self.norms[2](x + self.perceptron(x))


def embedding(features: int, width: int) -> nn.Sequential:
    """Make a network that turns a vector of ``features`` real numbers into a token."""
    return nn.Sequential(nn.LayerNorm(features), linear(features, width, _STRONG), nn.GELU())


def head(width: int, outputs: int) -> nn.Sequential:
    """Make a network that turns a token into logits, or into a value."""
    return nn.Sequential(
        linear(width, width, _STRONG), nn.GELU(), nn.LayerNorm(width), linear(width, outputs, _WEAK)
    )


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(linear(width, width, _STRONG), nn.GELU(), linear(width, width, _WEAK))


def one_hot(skill: Tensor, categories: int, dtype: torch.dtype) -> Tensor:
    """Encode skills (...) int64 as vectors (..., categories)."""
    return F.one_hot(skill, categories).to(dtype)


Reduction = Literal["mean", "sum"]
"""How the losses of the tokens of a decision are joined: the authors' code takes the mean, and their paper
the sum (Eq. 6)."""
