"""What encoders of parts refuse, in one line, and the parts that are cut out of a vector."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.encoders.embodiment import EmbodimentEncoder
from lit_rl.encoders.entities import EntityReader
from lit_rl.encoders.gnn import GNNEncoder
from lit_rl.encoders.graph_attention import GraphAttentionEncoder
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.observations import positions_in, users_in
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.token_toys import joint_spec

THREE = joint_spec(3)
BOX = ActionSpec("box", [2], low=[-1.0] * 2, high=[1.0] * 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AttentionEncoder(THREE, heads=3), r"heads = 3 must divide width = 64; \[1, 2, 4, 8, 16\]"),
        (lambda: GNNEncoder(THREE, layers=0), "GNNEncoder: layers = 0, expected 1 <= layers"),
        (lambda: GraphAttentionEncoder(THREE, heads=5), "GraphAttentionEncoder: heads = 5 must divide"),
        (lambda: EmbodimentEncoder(THREE, description=(1, 9)), "must name some of the columns 0 to 5"),
        (lambda: EmbodimentEncoder(THREE, description=tuple(range(6))), "leave others that are observed"),
        (
            lambda: AttentionEncoder(EnvSpec("toy", LeafSpec([3]), BOX)),
            "expects a Dict observation with 'joint_tokens' of shape .* toy observes LeafSpec.* give reader",
        ),
        (
            lambda: GNNEncoder(
                EnvSpec("toy", {"joint_tokens": LeafSpec([3, 2]), "joint_mask": LeafSpec([4])}, BOX)
            ),
            r"toy: observation\['joint_mask'\] must have shape \[3\], as there are 3 joint_tokens",
        ),
        (
            lambda: GNNEncoder(
                EnvSpec("toy", {"joint_tokens": LeafSpec([3, 2]), "joint_links": LeafSpec([3])}, BOX)
            ),
            r"observation\['joint_links'\] must have shape \[3, 3\]",
        ),
        (
            lambda: EntityReader(EnvSpec("toy", LeafSpec([5]), BOX), groups=[(2, 3)]),
            r"own = 0 and groups = \[\(2, 3\)\] need one vector of at least 6 features, toy observes",
        ),
    ],
)  # fmt: skip
def test_refusals(make: Any, message: str):
    with pytest.raises(ValueError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


def test_torch_geometric_is_imported_by_the_graph_network_alone():
    code = (
        "import sys, lit_rl.encoders.gnn, lit_rl.encoders.attention, lit_rl.encoders.entities\n"
        "assert 'torch_geometric' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_parts_are_cut_out_of_a_vector():
    """``[own 1 | two parts of 2 | one part of 3 | rest 2]``, beside a skill."""
    spec = EnvSpec("toy", {"observation": LeafSpec([10]), "skill": LeafSpec([], "int64", [3])}, BOX)
    reader = EntityReader(spec, groups=[(2, 2), (1, 3)], own=1, radius=5.0)
    assert (reader.num_tokens, reader.token_features, reader.context_features) == (3, 5, 6)
    seen = reader({"observation": torch.arange(10.0), "skill": torch.tensor(2)})
    assert seen.token.tolist() == [[[1, 2, 0, 1, 0], [3, 4, 0, 1, 0], [5, 6, 7, 0, 1]]]
    assert seen.context.tolist() == [[0, 8, 9, 0, 0, 1]]
    assert seen.lead == ()
    assert seen.exists.all()
    near = [[False, True, False], [True, False, True], [False, True, False]]  # sqrt(8) apart, or sqrt(32)
    assert seen.links.tolist() == [near]
    unlinked = EntityReader(spec, groups=[(2, 2)])
    assert not unlinked({"observation": torch.ones(4, 10), "skill": torch.ones(4).long()}).links.any()


def test_the_state_of_the_network_of_uavs_is_its_graph():
    """Positions lie where the reader looks for them, and UAVs and users near each other are linked."""
    env = UAVNetwork(3)
    state = env.reset(0)["state"]
    spec = EnvSpec("uav", LeafSpec([env.spec.state]), env.spec.action)
    reader = EntityReader(spec, groups=[(5, 9), (50, 4), (1, 3)], radius=0.3)
    tokens = reader(torch.from_numpy(state))
    assert tokens.token.shape == (3, 56, 12)
    uavs, users = positions_in(env.scenario, state), users_in(env.scenario, state)
    at = torch.cat([torch.from_numpy(uavs[..., :2]), torch.from_numpy(users)], 1)  # in m
    torch.testing.assert_close((tokens.token[:, :55, :2] + 1) * 500, at, rtol=1e-4, atol=1e-2)
    gap = torch.cdist(at, at)
    far_from_the_edge = (gap - 150).abs() > 0.1
    expected = (gap < 150) & ~torch.eye(55, dtype=torch.bool)  # 0.3 in units of 500 m
    assert torch.equal(tokens.links[:, :55, :55] & far_from_the_edge, expected & far_from_the_edge)
    assert tokens.context.shape == (3, 1)  # the time


def test_what_a_uav_sees_is_itself_its_peers_and_users():
    env = UAVNetwork(2)
    obs = torch.from_numpy(env.reset(0)["observation"])
    spec = EnvSpec("uav", LeafSpec([85]), env.spec.action)
    tokens = EntityReader(spec, groups=[(4, 7), (10, 4)], own=17)(obs)
    assert tokens.lead == (2, 5)
    assert tokens.token.shape == (10, 14, 9)
    assert tokens.context.shape == (10, 17)
    torch.testing.assert_close(tokens.token[7, 0, :7], obs[1, 2, 17:24])
    torch.testing.assert_close(tokens.token[7, 4, :4], obs[1, 2, 45:49])
    features = GNNEncoder(spec, width=8, reader=lambda s: EntityReader(s, [(4, 7), (10, 4)], 17))(obs)
    assert features.shape == (2, 5, 8)
