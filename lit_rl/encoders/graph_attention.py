"""Encoder of parts by graph convolutions before attention, the recipe of GCNT (arXiv:2505.15211).

Axes: B samples, J tokens, H hidden units, F features; ... stands for any leading axes.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.arguments import SmallCount, Width, check_arguments
from lit_rl.encoders.tokens.attention import AttentionBlock, DistanceBias, Embedding
from lit_rl.encoders.tokens.graph import neighbours, normalized_adjacency
from lit_rl.encoders.tokens.heads import check_heads
from lit_rl.encoders.tokens.layout import Layout
from lit_rl.encoders.tokens.reader import ReaderFactory, TokenReader, width_of
from lit_rl.types import EnvSpec, Nested


class GraphAttentionEncoder(LightningModule):
    """Graph convolutions among linked parts, then attention among all parts and the whole.

    The convolutions (Kipf 2017, arXiv:1609.02907) tell each part what is around it, so that attention may
    look for parts in such a place. Further it is an ``AttentionEncoder``.

    Args:
        spec: The environment; it observes the keys that ``TokenReader`` reads.
        width: Features of a part and of the whole.
        layers: Number of graph convolutions; each sees one link further.
        blocks: Number of attention blocks.
        heads: Heads of the attention; must divide ``width``.
        feedforward: Hidden units of the perceptron in each block.
        max_distance: Number of links from which on all parts count as equally far.
        reader: Reads parts out of other observations, given by its ``class_path``; None reads Dicts with
            ``joint_tokens``.

    Raises:
        ValueError: An argument is outside its range, or the observation has no parts.
    """

    loss_name = "attention"
    """Network to which the loss of an encoder that is trained alone belongs."""

    def __init__(
        self,
        spec: EnvSpec,
        width: Width = 64,
        layers: SmallCount = 2,
        blocks: SmallCount = 2,
        heads: SmallCount = 4,
        feedforward: Width = 128,
        max_distance: SmallCount = 5,
        reader: ReaderFactory | None = None,
    ) -> None:
        check_arguments(GraphAttentionEncoder, locals())
        check_heads("GraphAttentionEncoder", heads, width)
        super().__init__()
        self.reader = (reader or TokenReader)(spec)
        parts, features = width_of(self.reader, "num_tokens"), width_of(self.reader, "token_features")
        self.embedding = Embedding(features, width_of(self.reader, "context_features"), width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers + 1))
        self.convolutions = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.bias = DistanceBias(parts, heads, max_distance)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, feedforward) for _ in range(blocks))
        self.layout = Layout("GraphAttentionEncoder", width, width, self.reader)
        self.out_features = self.layout.out_features
        self.of_joints, self.of_whole = self.layout.of_joints, self.layout.of_whole

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation into features (..., F)."""
        tokens = self.reader(obs)
        embedded = self.embedding(tokens)
        whole, x_BJH = embedded[:, :1], embedded[:, 1:]
        mixing = normalized_adjacency(neighbours(tokens, self.bias.chain)).to(x_BJH.dtype)
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            x_BJH = x_BJH + F.gelu(mixing @ convolution(norm(x_BJH)))
        x, bias = torch.cat([whole, x_BJH], 1), self.bias(tokens)
        for block in self.blocks:
            x = block(x, bias)
        x = self.norms[-1](x)
        return self.layout.join(tokens, x[:, 0], x[:, 1:])
