from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.nn import functional

from lit_rl.algos.critics import Critics, StackedMLP, target_of
from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec


def test_stacked_critics_equal_separate_ones():
    stacked = StackedMLP([3, 5, 4, 1], num_networks=3)
    x = torch.randn(7, 3)
    out = stacked(x)
    assert out.shape == (3, 7, 1)
    for c in range(3):
        h = x
        for i, (weight, bias) in enumerate(zip(stacked.weights, stacked.biases, strict=True)):
            h = h @ weight[c] + bias[c]
            h = h.relu() if i < 2 else h
        torch.testing.assert_close(out[c], h)
    assert not torch.equal(out[0], out[1])
    bounds = [weight.abs().max().item() for weight in stacked.weights]
    assert all(bound <= limit**-0.5 for bound, limit in zip(bounds, [3, 5, 4], strict=True))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_a_subset_is_evaluated_as_among_all(layer_norm: bool):
    stacked = StackedMLP([3, 5, 4, 1], 5, layer_norm)
    for parameter in stacked.parameters():
        parameter.data.normal_()
    x, subset = torch.randn(7, 3), torch.tensor([3, 1])
    torch.testing.assert_close(stacked(x, subset), stacked(x)[[3, 1]])


def test_a_subset_of_the_critics_that_an_encoder_made():
    joints = EnvSpec(
        "e", {"joint_tokens": LeafSpec([2, 3]), "joint_mask": LeafSpec([2])},
        ActionSpec("box", [2], low=[-1, -1], high=[1, 1]),
    )  # fmt: skip
    critics = Critics(joints, [4], partial(AttentionEncoder, width=8, feedforward=8), 3)
    assert not isinstance(critics.network, StackedMLP)
    obs = {"joint_tokens": torch.randn(5, 2, 3), "joint_mask": torch.ones(5, 2)}
    action, subset = torch.rand(5, 2), torch.tensor([2, 0])
    torch.testing.assert_close(critics(obs, action, subset), critics(obs, action)[[2, 0]])


def test_units_are_left_out_before_they_are_normalised():
    """Hiraoka 2022, figure 1: linear, dropout, layer norm, ReLU."""
    stacked = StackedMLP([3, 6, 1], 2, layer_norm=True, dropout=0.5)
    x = torch.randn(4, 3)
    torch.manual_seed(0)
    out = stacked(x)
    torch.manual_seed(0)
    mask = functional.dropout(torch.ones(2, 4, 6), 0.5)
    assert set(mask.unique().tolist()) == {0.0, 2.0}  # what remains is doubled, so that the mean stays
    for c in range(2):
        h = (x @ stacked.weights[0][c] + stacked.biases[0][c]) * mask[c]
        h = ((h - h.mean(1, keepdim=True)) / (h.var(1, correction=0, keepdim=True) + 1e-5).sqrt()).relu()
        torch.testing.assert_close(out[c], h @ stacked.weights[1][c] + stacked.biases[1][c])
    assert not torch.equal(stacked(x), out)
    stacked.eval()
    assert torch.equal(stacked(x), stacked(x))


def test_a_target_is_a_copy_that_is_not_trained():
    spec = EnvSpec("e", LeafSpec([3]), ActionSpec("box", [2], low=[-1, -1], high=[1, 1]))
    critics = Critics(spec, [4], None, 2)
    target = target_of(critics)
    obs, action = torch.randn(5, 3), torch.randn(5, 2)
    assert torch.equal(target(obs, action), critics(obs, action))
    assert target(obs, action).shape == (2, 5)
    assert not any(p.requires_grad for p in target.parameters())
    assert all(p.requires_grad for p in critics.parameters())
