from __future__ import annotations

import math

import torch
from torch import distributions as slow
from torch.testing import assert_close

from lit_rl.algos.sac.tanh_normal import TanhNormal, mean_and_log_std


def test_tanh_normal_agrees_with_its_slow_twin():
    mean, log_std, noise = torch.randn(3, 4, 2, dtype=torch.float64)
    action, log_prob = TanhNormal(2).sample_with_log_prob(mean, log_std, noise)
    twin = slow.TransformedDistribution(slow.Normal(mean, log_std.exp()), slow.TanhTransform())
    assert_close(action, torch.tanh(mean + log_std.exp() * noise))
    assert_close(log_prob, twin.log_prob(action).sum(-1))
    assert TanhNormal(2).num_outputs == 4
    assert_close(TanhNormal(2).mode((mean, log_std)), torch.tanh(mean))
    assert TanhNormal(2).sample((mean, log_std)).abs().max() < 1


def test_tanh_normal_stays_finite_where_tanh_is_flat():
    mean = torch.tensor([[30.0], [-30.0]], requires_grad=True)
    _, log_prob = TanhNormal(1).sample_with_log_prob(mean, torch.zeros(2, 1), torch.zeros(2, 1))
    # log(1 - tanh(u)^2) is 2 log 2 - 2 |u| for large |u|.
    assert_close(log_prob, torch.full((2,), -0.5 * math.log(2 * math.pi) - 2 * math.log(2) + 60))
    log_prob.sum().backward()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()


def test_tanh_normal_compiles_into_one_graph():
    mean, log_std, noise = torch.randn(3, 4, 2)
    sample = TanhNormal(2).sample_with_log_prob
    compiled = torch.compile(sample, fullgraph=True, backend="eager")
    for ours, eager in zip(compiled(mean, log_std, noise), sample(mean, log_std, noise), strict=True):
        assert_close(ours, eager)


def test_log_std_is_bounded():
    mean, log_std = mean_and_log_std(torch.tensor([[1.0, 2.0, 100.0, -100.0]]))
    assert mean.tolist() == [[1.0, 2.0]]
    assert log_std.tolist() == [[2.0, -20.0]]
