"""Encoder of parts by attention, the recipe of Amorpheus (Kurin 2021, arXiv:2010.01856).

Axes: F features; ... stands for any leading axes.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lit_rl.arguments import SmallCount, Width, check_arguments
from lit_rl.encoders.tokens.attention import AttentionBlock, DistanceBias, Embedding
from lit_rl.encoders.tokens.heads import check_heads
from lit_rl.encoders.tokens.layout import Layout
from lit_rl.encoders.tokens.reader import ReaderFactory, TokenReader, width_of
from lit_rl.types import EnvSpec, Nested


class AttentionEncoder(LightningModule):
    """Self-attention among the parts that exist, such as the joints of a robot, and the whole.

    How many links lie between two parts is added to their attention, by a learned term of each head; parts
    have no absolute positions, so that weights fit any number of them. A policy with one action per joint
    decides each by its own features, its raw token and the whole; everything else sees the whole.

    Args:
        spec: The environment; it observes the keys that ``TokenReader`` reads.
        width: Features of a part and of the whole.
        blocks: Number of attention blocks. Each lets what is known pass once more from part to part.
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
        blocks: SmallCount = 2,
        heads: SmallCount = 4,
        feedforward: Width = 128,
        max_distance: SmallCount = 5,
        reader: ReaderFactory | None = None,
    ) -> None:
        check_arguments(AttentionEncoder, locals())
        check_heads("AttentionEncoder", heads, width)
        super().__init__()
        self.reader = (reader or TokenReader)(spec)
        parts, features = width_of(self.reader, "num_tokens"), width_of(self.reader, "token_features")
        self.embedding = Embedding(features, width_of(self.reader, "context_features"), width)
        self.bias = DistanceBias(parts, heads, max_distance)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads, feedforward) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.layout = Layout("AttentionEncoder", width, width, self.reader)
        self.out_features = self.layout.out_features
        self.of_joints, self.of_whole = self.layout.of_joints, self.layout.of_whole

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation into features (..., F)."""
        tokens = self.reader(obs)
        x, bias = self.embedding(tokens), self.bias(tokens)
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x)
        return self.layout.join(tokens, x[:, 0], x[:, 1:])
