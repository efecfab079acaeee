from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from lit_rl.losses import (
    approximate_kl,
    clip_fraction,
    clipped_surrogate,
    clipped_value_loss,
    explained_variance,
    value_loss,
    weighted_mean,
)

LOG_RATIO = torch.log(torch.tensor([1.0, 1.5, 0.5, 1.1]))
ADVANTAGE = torch.tensor([1.0, 2.0, -1.0, -3.0])
ZERO = torch.zeros(4)


def test_clipped_surrogate_by_hand():
    # min of (1, 1), (3, 2.4), (-.5, -.8), (-3.3, -3.3)
    assert_close(clipped_surrogate(LOG_RATIO, ZERO, ADVANTAGE, 0.2), -torch.tensor((1 + 2.4 - 0.8 - 3.3) / 4))


@pytest.mark.parametrize("clip", [0.2, torch.tensor(0.2)])
def test_clipped_surrogate_equals_the_formula_of_the_paper(clip):
    torch.manual_seed(0)
    advantage, gradients, losses = torch.randn(1000), [], []
    for ours in (True, False):
        log_prob = torch.linspace(-1, 1, 1000).requires_grad_()
        if ours:
            loss = clipped_surrogate(log_prob, torch.zeros(1000), advantage, clip)
        else:
            ratio = log_prob.exp()
            loss = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean()
        loss.backward()
        losses.append(loss.detach())
        gradients.append(log_prob.grad)
    assert_close(*losses)
    assert_close(*gradients)


def test_clipped_surrogate_stops_pulling_beyond_the_clip():
    log_prob = LOG_RATIO.clone().requires_grad_()
    clipped_surrogate(log_prob, ZERO, ADVANTAGE, 0.2).backward()
    assert_close(log_prob.grad, -torch.tensor([1.0, 0.0, 0.0, -3.3]) / 4)


def test_clipped_surrogate_of_an_unchanged_policy_is_the_policy_gradient():
    log_prob = torch.randn(4, requires_grad=True)
    clipped_surrogate(log_prob, log_prob.detach(), ADVANTAGE, 0.2).backward()
    assert_close(log_prob.grad, -ADVANTAGE / 4)


def test_value_losses_by_hand():
    value, old, target = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 3.0])
    assert value_loss(value, target).item() == 0.5
    # The second value is pulled back to 1.5: error 1.5^2 instead of 0.
    assert clipped_value_loss(value, old, target, 0.5).item() == (1 + 2.25) / 2


def test_huber_by_hand():
    value, old, target = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 1.0]), torch.tensor([0.0, 0.0])
    # within delta the square, beyond it delta * (2 |e| - delta) = 2 * (6 - 2)
    assert value_loss(value, target, huber_delta=2.0).item() == (1 + 8) / 2
    assert clipped_value_loss(value, old, -target, 0.5, huber_delta=2.0).item() == (1 + 8) / 2
    assert clipped_value_loss(value, old, target + 3, 0.5, huber_delta=1.0).item() == (3 + 2) / 2
    assert_close(value_loss(value, target, huber_delta=1e3), value_loss(value, target))


def test_huber_bounds_the_gradient():
    value = torch.tensor([0.5, 100.0, -100.0], requires_grad=True)
    value_loss(value, torch.zeros(3), huber_delta=2.0).backward()
    assert_close(value.grad, torch.tensor([1.0, 4.0, -4.0]) / 3)


def test_a_wide_clip_is_no_clip():
    value, old, target = torch.randn(3, 8)
    assert_close(clipped_value_loss(value, old, target, 1e6), value_loss(value, target))


def test_kl_and_clip_fraction_by_hand():
    expected = sum(r - 1 - math.log(r) for r in (1.0, 1.5, 0.5, 1.1)) / 4
    assert_close(approximate_kl(LOG_RATIO), torch.tensor(expected))
    assert clip_fraction(LOG_RATIO, 0.2).item() == 0.5
    assert approximate_kl(ZERO).item() == 0


def test_explained_variance():
    returns = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert explained_variance(returns + 5, returns).item() == 1
    assert explained_variance(ZERO, returns).item() == 0
    assert explained_variance(-returns, returns).item() == -3
    assert explained_variance(returns, ZERO).isnan()


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y, w: clipped_surrogate(x, y, x - y, 0.2, w),
        value_loss,
        lambda x, y, w: value_loss(x, y, w, huber_delta=0.3),
        lambda x, y, w: clipped_value_loss(x, x + 1, y, 0.2, w),
        lambda x, y, w: clipped_value_loss(x, x + 1, y, 0.2, w, huber_delta=0.3),
        lambda x, y, w: approximate_kl(x, w),
        lambda x, y, w: clip_fraction(x, 0.2, w),
        explained_variance,
    ],
)
def test_a_mask_equals_leaving_rows_out(loss):
    x, y = torch.randn(2, 10, generator=torch.Generator().manual_seed(0))
    keep = torch.arange(10) % 3 > 0
    expected = loss(x[keep], y[keep], None)
    assert_close(loss(x, y, keep), expected)
    assert_close(loss(x, y, keep.float()), expected)


def test_mean_over_nothing_is_zero():
    assert weighted_mean(torch.ones(3), torch.zeros(3)).item() == 0


def test_losses_refuse_to_broadcast():
    with pytest.raises(ValueError, match=r"return_B must have the shape of value_B, \(4, 1\); got \(4,\)"):
        value_loss(torch.zeros(4, 1), ZERO)
    with pytest.raises(ValueError, match="advantage_B must have the shape of log_prob_B"):
        clipped_surrogate(ZERO, ZERO, torch.zeros(4, 1), 0.2)


def test_losses_compile_into_one_graph():
    def update(x, y, weight):
        return (
            clipped_surrogate(x, y, y, 0.2, weight)
            + clipped_value_loss(x, y, y, 0.2, weight)
            + approximate_kl(x - y, weight)
            + clip_fraction(x - y, 0.2, weight)
            + explained_variance(x, y, weight)
        )

    x, y = torch.randn(2, 6)
    weight = torch.ones(6)
    compiled = torch.compile(update, fullgraph=True, backend="eager")
    assert_close(compiled(x, y, weight), update(x, y, weight))
