"""The attention blocks of the skill coordinator, as in the Multi-Agent Transformer (Wen 2022, 2205.14953).

Axes: B batch, L tokens, W width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.nets import linear

_WEAK, _STRONG = 0.01, math.sqrt(2)
"""Gains of the initial weights: weak ones begin near the identity, strong ones stand before a GELU."""


class Attention(nn.Module):
    """Multi-head attention (Vaswani 2017, arXiv:1706.03762) without dropout.

    A replayed decision must have the probability with which it was made.

    Args:
        width: W.
        heads: Number of heads; divides ``width``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (linear(width, width, _WEAK) for _ in range(4))

    def forward(self, query_BLW: Tensor, source_BLW: Tensor, is_causal: bool) -> Tensor:
        """What ``query`` finds in ``source``, (B, L, W); causal: token i sees tokens 0 to i."""
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for layer, x in (
                (self.query, query_BLW),
                (self.key, source_BLW),
                (self.value, source_BLW),
            )
        )
        found = F.scaled_dot_product_attention(query, key, value, is_causal=is_causal)
        return self.out(found.transpose(-3, -2).flatten(-2))


class EncoderBlock(nn.Module):
    """Self-attention over all tokens, then a perceptron; each added to its input and normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention, self.perceptron = Attention(width, heads), _perceptron(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x_BLW: Tensor) -> Tensor:
        """(B, L, W) to (B, L, W)."""
        x = self.norms[0](x_BLW + self.attention(x_BLW, x_BLW, is_causal=False))
        return self.norms[1](x + self.perceptron(x))


class DecoderBlock(nn.Module):
    """Causal self-attention over what was decided; the encoder's tokens look at it; a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.own, self.cross = Attention(width, heads), Attention(width, heads)
        self.perceptron = _perceptron(width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x_BLW: Tensor, encoded_BLW: Tensor) -> Tensor:
        """Decisions and encoder tokens, both (B, L, W), to (B, L, W)."""
        x = self.norms[0](x_BLW + self.own(x_BLW, x_BLW, is_causal=True))
        x = self.norms[1](encoded_BLW + self.cross(encoded_BLW, x, is_causal=True))
        return self.norms[2](x + self.perceptron(x))


def embedding(features: int, width: int) -> nn.Sequential:
    """Normalise a vector of real features and make a token of it."""
    return nn.Sequential(nn.LayerNorm(features), linear(features, width, _STRONG), nn.GELU())


def head(width: int, outputs: int) -> nn.Sequential:
    """From a token to logits or a value."""
    return nn.Sequential(
        linear(width, width, _STRONG), nn.GELU(), nn.LayerNorm(width), linear(width, outputs, _WEAK)
    )


def _perceptron(width: int) -> nn.Sequential:
    return nn.Sequential(linear(width, width, _STRONG), nn.GELU(), linear(width, width, _WEAK))


def one_hot(skill: Tensor, categories: int, dtype: torch.dtype) -> Tensor:
    """Skills (...) int64 as vectors (..., categories)."""
    return F.one_hot(skill, categories).to(dtype)


Reduction = Literal["mean", "sum"]
"""How the losses of the tokens of a decision are joined: the authors' code takes the mean, their paper (Eq.
6) the sum."""
