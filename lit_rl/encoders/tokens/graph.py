"""Graphs of parts, batched by index arithmetic: who is near whom, and the edges that messages pass along.

Axes: B samples, J tokens. A graph has J + 1 nodes where the whole is node 0; parts that do not exist have no
edges.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.encoders.tokens.reader import Tokens

EDGE_FEATURES = 5
"""What an edge tells of itself: it goes from a parent to its child, from a child to its parent, to the whole,
from the whole, or from a node to itself."""


def chain(num_tokens: int) -> Tensor:
    """Return links (J, J) in which each part is the parent of the next one."""
    return (
        torch.ones(num_tokens - 1, dtype=torch.bool).diag(1) if num_tokens > 1 else torch.zeros(1, 1).bool()
    )


def neighbours(tokens: Tokens, chain_JJ: Tensor) -> Tensor:
    """Return which existing parts are linked, whoever is the parent, bool (B, J, J)."""
    links = chain_JJ if tokens.links is None else tokens.links
    exists = tokens.exists
    return (links | links.mT) & exists.unsqueeze(-1) & exists.unsqueeze(-2)


def hop_distance(near_BJJ: Tensor, limit: int) -> Tensor:
    """Count the links between any two parts, int64 (B, J, J); ``limit`` stands for more, or for no way.

    A part that is reached by h links but no fewer misses the h sets of parts within 0, 1 ... h - 1 links.
    """
    itself = torch.eye(near_BJJ.shape[-1], dtype=torch.bool, device=near_BJJ.device)
    step, reached = (near_BJJ | itself).float(), itself.expand_as(near_BJJ).float()
    distance = torch.zeros_like(near_BJJ, dtype=torch.int64)
    for _ in range(limit):
        distance = distance + (reached == 0)
        reached = (reached @ step).clamp(max=1.0)
    return distance


def normalized_adjacency(near_BJJ: Tensor) -> Tensor:
    """Return D^-1/2 (A + I) D^-1/2 (B, J, J), by which a graph convolution averages (Kipf 2017, eq. 2)."""
    with_self = (near_BJJ | torch.eye(near_BJJ.shape[-1], dtype=torch.bool, device=near_BJJ.device)).float()
    scale = with_self.sum(-1).rsqrt()
    return with_self * scale.unsqueeze(-1) * scale.unsqueeze(-2)


class Edges(NamedTuple):
    """The edges of a batch of graphs as one graph, as torch_geometric takes them.

    Attributes:
        nodes: Source and target of each edge, int64 (2, edges). Node n of graph b is ``b * (J + 1) + n``; one
            node beyond the last takes the edges that lead to or from parts that do not exist.
        feature: What the edges are, (edges, 5).
    """

    nodes: Tensor
    feature: Tensor


class EdgeBuilder(nn.Module):
    """Makes the edges of a batch of graphs without a loop over graphs.

    The edges of a chain, and those of the whole with each part, are the same in every graph: a template is
    shifted. Edges of parts that do not exist are not removed but led elsewhere, so that sizes depend on the
    size of the batch alone. Only where observations bring ``joint_links`` of their own, edges are searched
    for.

    Args:
        num_tokens: Number J of parts.
    """

    source: Tensor
    target: Tensor
    feature: Tensor

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        links = chain(num_tokens)
        parents, children = links.nonzero(as_tuple=True)
        part, whole = torch.arange(num_tokens), torch.zeros(num_tokens, dtype=torch.int64)
        every = torch.arange(num_tokens + 1)
        kinds = [
            (parents + 1, children + 1),
            (children + 1, parents + 1),
            (part + 1, whole),
            (whole, part + 1),
            (every, every),
        ]
        kind = torch.cat([torch.full_like(source, k) for k, (source, _) in enumerate(kinds)])
        self.register_buffer("source", torch.cat([source for source, _ in kinds]), persistent=False)
        self.register_buffer("target", torch.cat([target for _, target in kinds]), persistent=False)
        self.register_buffer("feature", F.one_hot(kind, EDGE_FEATURES).float(), persistent=False)
        self.first_of_star = 2 * len(parents)

    def forward(self, tokens: Tokens) -> Edges:
        """Make the edges for what was read."""
        batch, parts = tokens.exists.shape
        first = 0 if tokens.links is None else self.first_of_star
        source, target, feature = self.source[first:], self.target[first:], self.feature[first:]
        start = torch.arange(batch, device=source.device).unsqueeze(-1) * (parts + 1)
        exists = F.pad(tokens.exists, (1, 0), value=True)
        is_edge = exists[:, source] & exists[:, target]  # (B, edges of a graph)
        nowhere = batch * (parts + 1)
        index = torch.stack([start + source, start + target]).where(is_edge, nowhere).flatten(1)
        feature = feature.to(tokens.token.dtype).expand(batch, -1, -1).flatten(0, 1)
        if tokens.links is None:
            return Edges(index, feature)
        graph, i, j = neighbours(tokens, tokens.links).nonzero(as_tuple=True)
        shift = graph * (parts + 1) + 1
        down, up = tokens.links[graph, i, j], tokens.links[graph, j, i]
        between = F.pad(torch.stack([down, up], -1).to(feature.dtype), (0, EDGE_FEATURES - 2))
        return Edges(
            torch.cat([index, torch.stack([shift + i, shift + j])], 1), torch.cat([feature, between])
        )
