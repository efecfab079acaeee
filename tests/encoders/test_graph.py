"""Graphs of parts by hand: distances, means over neighbours, and edges that are joined without a loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lit_rl.encoders.gnn import GNNEncoder
from lit_rl.encoders.tokens.attention import DistanceBias
from lit_rl.encoders.tokens.graph import EdgeBuilder, chain, hop_distance, neighbours, normalized_adjacency
from lit_rl.encoders.tokens.reader import TokenReader, Tokens
from tests.token_toys import joint_spec, robots

TREE = torch.zeros(5, 5, dtype=torch.bool)
"""Part 0 has the children 1 and 2, part 2 the child 3; part 4 stands alone."""
TREE[0, 1] = TREE[0, 2] = TREE[2, 3] = True


def test_distances_are_numbers_of_links():
    near = (TREE | TREE.T)[None]
    assert hop_distance(near, 4)[0].tolist() == [
        [0, 1, 1, 2, 4],
        [1, 0, 2, 3, 4],
        [1, 2, 0, 1, 4],
        [2, 3, 1, 0, 4],
        [4, 4, 4, 4, 0],
    ]
    assert hop_distance(near, 2).max() == 2
    links = chain(6)
    expected = (torch.arange(6)[:, None] - torch.arange(6)).abs()
    assert torch.equal(hop_distance(links | links.T, 5), expected)
    assert chain(1).tolist() == [[False]]


def test_a_convolution_averages_over_neighbours():
    mixing = normalized_adjacency((TREE | TREE.T)[None])[0]
    degree = torch.tensor([3.0, 2.0, 3.0, 2.0, 1.0])  # with itself
    assert mixing[0, 2] == pytest.approx(1 / 3)
    assert mixing[2, 3] == pytest.approx(1 / 6**0.5)
    assert mixing[4].tolist() == [0, 0, 0, 0, 1]
    torch.testing.assert_close(mixing.diagonal(), 1 / degree)


def test_parts_that_do_not_exist_have_no_neighbours():
    tokens = TokenReader(joint_spec(4))(robots(2, 4, (2, 4)))
    near = neighbours(tokens, chain(4))
    assert near[0].nonzero().tolist() == [[0, 1], [1, 0]]
    assert near[1].sum() == 6


def edges_of(tokens: Tokens, parts: int) -> list[set[tuple[int, int, tuple[int, ...]]]]:
    """Edges of each graph, with what they are; those that lead nowhere are left out."""
    nodes, feature = EdgeBuilder(parts)(tokens)
    batch, size = len(tokens.token), parts + 1
    assert nodes.max() <= batch * size
    found: list[set[Any]] = [set() for _ in range(batch)]
    for source, target, kind in zip(*nodes.tolist(), feature.int().tolist(), strict=True):
        assert (source == batch * size) == (target == batch * size)
        if source < batch * size:
            assert source // size == target // size, "an edge between two graphs"
            edge = (source % size, target % size, tuple(kind))
            assert edge not in found[source // size]
            found[source // size].add(edge)
    return found


DOWN, UP, IN, OUT, SELF = (tuple(int(i == k) for i in range(5)) for k in range(5))


@pytest.mark.parametrize("with_links", [False, True])
def test_edges_of_a_batch_are_those_of_each_robot(with_links: bool):
    tokens = TokenReader(joint_spec(3, with_links))(robots(2, 3, (3, 1), with_links))
    three, one = edges_of(tokens, 3)
    assert three == {
        (1, 2, DOWN), (2, 3, DOWN), (2, 1, UP), (3, 2, UP),
        *((part, 0, IN) for part in (1, 2, 3)), *((0, part, OUT) for part in (1, 2, 3)),
        *((node, node, SELF) for node in range(4)),
    }  # fmt: skip
    assert one == {(1, 0, IN), (0, 1, OUT), (0, 0, SELF), (1, 1, SELF)}


def test_a_network_without_direction_has_one_edge_each_way():
    links = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    obs = robots(1, 3, (3,), with_links=True) | {"joint_links": links[None]}
    (graph,) = edges_of(TokenReader(joint_spec(3, True))(obs), 3)
    between = {edge for edge in graph if 0 not in edge[:2] and edge[0] != edge[1]}
    assert between == {(1, 2, (1, 1, 0, 0, 0)), (2, 1, (1, 1, 0, 0, 0))}


def test_batching_does_not_loop_over_graphs(monkeypatch: pytest.MonkeyPatch):
    from torch_geometric.data import Batch

    def loops(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("from_data_list takes longer than the network")

    monkeypatch.setattr(Batch, "from_data_list", loops)
    encoder = GNNEncoder(joint_spec(4), width=8)
    shapes = []
    for batch in (1, 64):
        encoder.edges.register_forward_hook(lambda _, __, edges: shapes.append(edges.nodes.shape[1]))
        encoder(robots(batch, 4, (2, 3, 4)))
    assert shapes[-1] == 64 * shapes[0], "the number of edges depends on the size of the batch alone"


def test_the_whole_and_parts_attend_by_terms_of_their_own():
    bias = DistanceBias(3, heads=1, max_distance=2)
    with torch.no_grad():
        bias.table.copy_(torch.arange(5.0)[None])  # 0 to 2 links, a part to the whole, the whole to a part
    obs = robots(2, 3, (3, 2))
    out = bias(TokenReader(joint_spec(3))(obs))
    infinite = -torch.inf
    assert out[0, 0].tolist() == [[0, 4, 4, 4], [3, 0, 1, 2], [3, 1, 0, 1], [3, 2, 1, 0]]
    assert out[1, 0].tolist() == [
        [0, 4, 4, infinite],
        [3, 0, 1, infinite],
        [3, 1, 0, infinite],
        [3, 2, 1, infinite],
    ]
