"""Encoder of parts by messages along the links of their graph, with layers of torch_geometric.

Axes: B samples, J tokens, H hidden units, F features; ... stands for any leading axes.
"""

from __future__ import annotations

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.arguments import SmallCount, Width, check_arguments
from lit_rl.encoders.tokens.attention import Embedding
from lit_rl.encoders.tokens.graph import EDGE_FEATURES, EdgeBuilder
from lit_rl.encoders.tokens.heads import check_heads
from lit_rl.encoders.tokens.layout import Layout
from lit_rl.encoders.tokens.reader import ReaderFactory, TokenReader, width_of
from lit_rl.types import EnvSpec, Nested


class GNNEncoder(LightningModule):
    """A graph network (GATv2, Brody 2022, arXiv:2105.14491) over parts, their links, and a node of the whole.

    Edges know their direction: from parent to child, back, to the whole and from it. Each layer passes
    messages one link on, and over the whole from any part to any other in two. The graphs of a batch are
    joined by index arithmetic, without a loop. A policy with one action per joint decides each by its own
    features, its raw token and the whole; everything else sees the whole.

    Args:
        spec: The environment; it observes the keys that ``TokenReader`` reads.
        width: Features of a part and of the whole.
        layers: Number of layers, of which the links between two parts need as many.
        heads: Heads of each layer; must divide ``width``.
        reader: Reads parts out of other observations, given by its ``class_path``; None reads Dicts with
            ``joint_tokens``.

    Raises:
        ValueError: An argument is outside its range, or the observation has no parts.
    """

    loss_name = "gnn"
    """Network to which the loss of an encoder that is trained alone belongs."""

    def __init__(
        self,
        spec: EnvSpec,
        width: Width = 64,
        layers: SmallCount = 3,
        heads: SmallCount = 4,
        reader: ReaderFactory | None = None,
    ) -> None:
        check_arguments(GNNEncoder, locals())
        check_heads("GNNEncoder", heads, width)
        super().__init__()
        from torch_geometric.nn import GATv2Conv  # its import takes seconds

        self.reader = (reader or TokenReader)(spec)
        parts, features = width_of(self.reader, "num_tokens"), width_of(self.reader, "token_features")
        self.embedding = Embedding(features, width_of(self.reader, "context_features"), width)
        self.edges = EdgeBuilder(parts)
        options = {"heads": heads, "edge_dim": EDGE_FEATURES, "add_self_loops": False}
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers + 1))
        self.convolutions = nn.ModuleList(GATv2Conv(width, width // heads, **options) for _ in range(layers))
        self.layout = Layout("GNNEncoder", width, width, self.reader)
        self.out_features = self.layout.out_features
        self.of_joints, self.of_whole = self.layout.of_joints, self.layout.of_whole

    def forward(self, obs: Nested) -> Tensor:
        """Turn an observation into features (..., F)."""
        tokens = self.reader(obs)
        index, feature = self.edges(tokens)
        graphs = self.embedding(tokens)
        shape = graphs.shape  # (B, J+1, H)
        x = F.pad(graphs.flatten(0, 1), (0, 0, 0, 1))  # a node more for edges of parts that do not exist
        for norm, convolution in zip(self.norms, self.convolutions, strict=False):
            x = x + F.gelu(convolution(norm(x), index, feature))
        x = self.norms[-1](x)[:-1].view(shape)
        return self.layout.join(tokens, x[:, 0], x[:, 1:])
