"""What every encoder of parts must keep to, over the list ``TOKEN_ENCODERS`` of ``tests/cases.py``."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.nested import map_nested
from lit_rl.nets import mlp
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.cases import TOKEN_ENCODERS, shipped_token_encoders
from tests.token_toys import joint_spec, robots

CLOSE = {"rtol": 1e-5, "atol": 1e-6}

every = pytest.mark.parametrize("name", TOKEN_ENCODERS)


class Made(nn.Module):
    """An encoder with what decides for each joint, and what judges the whole."""

    def __init__(self, name: str, max_joints: int, with_links: bool = False, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.encoder: Any = TOKEN_ENCODERS[name](joint_spec(max_joints, with_links))
        torch.manual_seed(seed + 1)
        self.actor = self.encoder.of_joints([self.encoder.out_features, 8, max_joints], "tanh", 1.0)
        self.critic = self.encoder.of_whole([self.encoder.out_features, 8, 1], "tanh", 1.0)

    def forward(self, obs: Any) -> tuple[Tensor, Tensor]:
        features = self.encoder(obs)
        return self.actor(features), self.critic(features).squeeze(-1)


def padded(obs: Any, max_joints: int, value: float = 0.0) -> Any:
    """The same robots in arrays for more joints, with ``value`` in the tokens that were added."""
    more = max_joints - obs["joint_mask"].shape[-1]
    pad = nn.functional.pad
    grown = {
        "joint_tokens": pad(obs["joint_tokens"], (0, 0, 0, more), value=value),
        "joint_mask": pad(obs["joint_mask"], (0, more)),
        "global_token": obs["global_token"],
    }
    return grown | (
        {"joint_links": pad(obs["joint_links"], (0, more, 0, more))} if "joint_links" in obs else {}
    )


def permuted(obs: Any, order: Sequence[int]) -> Any:
    """The same robots with their joints in another order."""
    index = torch.tensor(order)
    moved = {key: obs[key].index_select(1, index) for key in ("joint_tokens", "joint_mask", "joint_links")}
    return moved | {
        "joint_links": moved["joint_links"].index_select(2, index),
        "global_token": obs["global_token"],
    }


def test_every_encoder_of_parts_is_listed():
    listed = {factory.func for factory in TOKEN_ENCODERS.values()}
    missing = sorted(cls.__name__ for cls in shipped_token_encoders() - listed)
    assert [f"add {name} to TOKEN_ENCODERS in tests/cases.py" for name in missing] == []
    assert AttentionEncoder in listed


@every
def test_any_leading_axes(name: str):
    made = Made(name, 4)
    assert isinstance(made.encoder, LightningModule)
    obs = robots(6, 4, (2, 3, 4))
    features = made.encoder(obs)
    assert features.shape == (6, made.encoder.out_features)
    more = made.encoder(map_nested(lambda leaf: leaf.unflatten(0, (2, 3)), obs))
    torch.testing.assert_close(more, features.unflatten(0, (2, 3)), **CLOSE)
    one = made.encoder(map_nested(lambda leaf: leaf[4], obs))
    torch.testing.assert_close(one, features[4], **CLOSE)
    none = made.encoder(map_nested(lambda leaf: leaf[:0], obs))
    assert none.shape == (0, made.encoder.out_features)


@every
@pytest.mark.parametrize("with_links", [False, True])
def test_padding_changes_nothing_and_what_stands_there_is_not_seen(name: str, with_links: bool):
    """With the weights of three joints, three joints in arrays for six get the same decisions and values."""
    three, six = Made(name, 3, with_links), Made(name, 6, with_links)
    six.load_state_dict(three.state_dict())  # weights fit any number of joints
    obs = robots(5, 3, (3,), with_links)
    action, value = three(obs)
    for filling in (0.0, 7.0, torch.nan, torch.inf):
        more, same_value = six(padded(obs, 6, filling))
        torch.testing.assert_close(more[:, :3], action, **CLOSE)
        torch.testing.assert_close(same_value, value, **CLOSE)
        assert torch.isfinite(more).all(), filling


@every
def test_what_joints_do_moves_with_them(name: str):
    """In another order the same joints do the same, and the whole has the same value."""
    made = Made(name, 5, with_links=True)
    obs = robots(4, 5, (3, 5), with_links=True)
    order = [3, 0, 4, 2, 1]
    action, value = made(obs)
    moved, same_value = made(permuted(obs, order))
    torch.testing.assert_close(moved, action[:, order], **CLOSE)
    torch.testing.assert_close(same_value, value, **CLOSE)
    assert not torch.allclose(moved[:, 0], action[:, 0], atol=1e-3), "the joints were not the same"


@every
def test_robots_of_all_sizes_do_not_see_each_other(name: str):
    made = Made(name, 6)
    obs = robots(9, 6, (1, 3, 6, 4))
    action, value = made(obs)
    order = torch.tensor([8, 2, 0, 1, 3, 7, 6, 5, 4])
    other_action, other_value = made(map_nested(lambda leaf: leaf[order], obs))
    torch.testing.assert_close(other_action, action[order], **CLOSE)
    torch.testing.assert_close(other_value, value[order], **CLOSE)
    for b in range(9):
        alone_action, alone_value = made({key: leaf[b : b + 1] for key, leaf in obs.items()})
        torch.testing.assert_close(alone_action[0], action[b], **CLOSE)
        torch.testing.assert_close(alone_value[0], value[b], **CLOSE)


@every
def test_a_number_of_joints_that_was_never_seen(name: str):
    """Weights of arms with three to six joints move one with eight; each of its joints is told apart."""
    six, eight = Made(name, 6), Made(name, 8)
    eight.load_state_dict(six.state_dict())
    action, value = eight(robots(3, 8, (8,)))
    assert torch.isfinite(action).all()
    assert torch.isfinite(value).all()
    assert (action.std(1) > 1e-4).all()


@every
def test_every_joint_sees_the_others_and_the_whole(name: str):
    made = Made(name, 4)
    obs = robots(1, 4, (4,))
    tokens = obs["joint_tokens"].requires_grad_()
    context = obs["global_token"].requires_grad_()
    action, value = made(obs | {"joint_tokens": tokens, "global_token": context})
    for j in range(4):
        by_token, by_context = torch.autograd.grad(action[0, j], (tokens, context), retain_graph=True)
        assert (by_token.abs().sum(-1) > 0).all(), "some other joint is not seen"
        assert by_context.abs().sum() > 0
    (by_token,) = torch.autograd.grad(value[0], (tokens,))
    assert (by_token.abs().sum(-1) > 0).all()


@every
def test_a_chain_that_is_told_equals_the_chain_that_is_assumed(name: str):
    told, assumed = Made(name, 4, with_links=True), Made(name, 4)
    told.load_state_dict(assumed.state_dict())
    obs = robots(6, 4, (2, 3, 4), with_links=True)
    for one, other in zip(told(obs), assumed(obs), strict=True):
        torch.testing.assert_close(one, other, **CLOSE)


@pytest.mark.parametrize("name", sorted(TOKEN_ENCODERS.keys() - {"embodiment"}))
def test_links_matter(name: str):
    """A star is another robot than a chain; weights of distances are given, as they begin at zero."""
    made = Made(name, 4, with_links=True)
    for module in made.modules():
        if hasattr(module, "table"):
            nn.init.normal_(module.table)
    obs = robots(2, 4, (4,), with_links=True)
    star = torch.zeros(4, 4, dtype=torch.int64)
    star[0, 1:] = 1
    chain_action, _ = made(obs)
    star_action, _ = made(obs | {"joint_links": star.expand(2, -1, -1)})
    assert not torch.allclose(chain_action, star_action, atol=1e-4)


@every
def test_no_dropout(name: str):
    made = Made(name, 4).train()
    obs = robots(4, 4, (2, 4))
    assert torch.equal(made(obs)[0], made(obs)[0])
    assert torch.equal(made(obs)[0], made.eval()(obs)[0])
    assert not any(isinstance(module, nn.Dropout) for module in made.modules())


@every
def test_every_weight_is_used_by_actor_and_by_critic(name: str):
    for output in (0, 1):
        made = Made(name, 4)
        made(robots(8, 4, (2, 3, 4)))[output].square().sum().backward()
        unused = [key for key, p in made.encoder.named_parameters() if p.grad is None or not p.grad.any()]
        assert unused == []


@every
def test_other_actions_and_copies(name: str):
    """Where actions do not move the parts one by one, features are of the whole; encoders can be copied."""
    spec = joint_spec(4)
    discrete = EnvSpec("toy", spec.observation, ActionSpec("discrete", categories=[3]))
    encoder: Any = TOKEN_ENCODERS[name](discrete)
    assert encoder.out_features == 16
    assert encoder(robots(2, 4, (3,))).shape == (2, 16)
    network = encoder.of_joints([16, 8, 3], "tanh", 1.0)
    assert [type(layer) for layer in network] == [type(layer) for layer in mlp([16, 8, 3], "tanh", 1.0)]
    twin = copy.deepcopy(encoder)
    torch.testing.assert_close(twin(robots(2, 4, (3,))), encoder(robots(2, 4, (3,))))


@every
def test_only_tokens_are_needed(name: str):
    spec = EnvSpec("toy", {"joint_tokens": LeafSpec([3, 6])}, ActionSpec("discrete", categories=[3]))
    encoder = TOKEN_ENCODERS[name](spec)
    tokens = torch.randn(2, 3, 6)
    features = encoder({"joint_tokens": tokens})
    masked = TOKEN_ENCODERS[name](
        EnvSpec("toy", {"joint_tokens": LeafSpec([3, 6]), "joint_mask": LeafSpec([3])}, spec.action)
    )
    masked.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(masked({"joint_tokens": tokens, "joint_mask": torch.ones(2, 3)}), features)


@every
@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_precisions(name: str, precision: str):
    made, obs = Made(name, 4), robots(4, 4, (2, 4))
    exact = made(obs)[0]
    if precision == "float64":
        obs = {key: leaf.double() if leaf.is_floating_point() else leaf for key, leaf in obs.items()}
        out = made.double()(obs)[0]
        assert out.dtype == torch.float64
        torch.testing.assert_close(out.float(), exact, **CLOSE)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            out = made(obs)[0]
        torch.testing.assert_close(out.float(), exact, rtol=0.1, atol=0.1)


@every
def test_decisions_can_be_exported(name: str):
    """The program takes any number of robots."""
    made, obs = Made(name, 4), robots(2, 4, (2, 4))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(made, (obs,), dynamic_shapes=({key: {0: batch} for key in obs},)).module()
    more = robots(7, 4, (2, 3, 4), seed=1)
    torch.testing.assert_close(program(more)[0], made(more)[0], **CLOSE)


@pytest.mark.slow
@every
def test_gradients_are_compiled_as_one_graph(name: str):
    made, obs = Made(name, 4), robots(8, 4, (2, 3, 4))
    parameters = {key: p.detach() for key, p in made.named_parameters()}

    def loss(values: dict[str, Tensor], obs: Any) -> Tensor:
        action, value = torch.func.functional_call(made, values, (obs,))
        return action.square().sum() + value.sum()

    expected = torch.func.grad(loss)(parameters, obs)
    compiled = torch.compile(torch.func.grad(loss), fullgraph=True, dynamic=False)(parameters, obs)
    for key, value in expected.items():
        torch.testing.assert_close(compiled[key], value, rtol=1e-3, atol=1e-4)
