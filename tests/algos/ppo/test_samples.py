"""From rollouts to minibatches: shuffling keeps every row, normalising is per minibatch and over ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.algos.ppo.samples import Samples, normalize_advantages, shuffled_epochs


def alone(tensor: Tensor) -> Tensor:
    return tensor


def minibatches_of(advantage: Tensor, per_batch: int) -> list[Samples]:
    return [{"advantage": part} for part in advantage.split(per_batch)]


def test_an_epoch_uses_every_row_once_in_a_new_order():
    samples = {"log_prob": torch.arange(12.0), "obs": {"x": torch.arange(12)}}
    orders = []
    for minibatches in shuffled_epochs(samples, None, 4, 2):
        assert [len(minibatch["log_prob"]) for minibatch in minibatches] == [4, 4, 4]
        order = torch.cat([minibatch["obs"]["x"] for minibatch in minibatches])
        assert order.sort().values.tolist() == list(range(12))
        assert torch.equal(torch.cat([minibatch["log_prob"] for minibatch in minibatches]), order.float())
        orders.append(order.tolist())
    assert orders[0] != orders[1]


def test_rows_that_may_not_be_used_are_replaced_by_others():
    samples = {"log_prob": torch.arange(6.0)}
    usable = torch.tensor([0, 5])  # fewer than half
    for per_batch in (2, 6):
        for minibatches in shuffled_epochs(samples, usable, per_batch, 1):
            values = torch.cat([minibatch["log_prob"] for minibatch in minibatches])
            assert sorted(values.tolist()) == [0, 0, 0, 5, 5, 5]


def test_one_minibatch_is_the_same_in_every_epoch():
    samples = {"log_prob": torch.arange(6.0)}
    first, second = (minibatches[0] for minibatches in shuffled_epochs(samples, None, 6, 2))
    assert first is second is samples


def test_advantages_are_normalised_within_each_minibatch():
    advantage = torch.randn(12) * 5 + 3
    groups = advantage.view(3, 4)
    expected = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-8)
    got = normalize_advantages(minibatches_of(advantage, 4), alone)
    torch.testing.assert_close(torch.stack([minibatch["advantage"] for minibatch in got]), expected)
    chunks = advantage.view(6, 2)  # two chunks of two steps in a minibatch
    got = normalize_advantages(minibatches_of(chunks, 2), alone)
    torch.testing.assert_close(torch.cat([minibatch["advantage"] for minibatch in got]), expected.view(6, 2))


def test_rows_without_weight_do_not_move_the_normalisation():
    advantage = torch.tensor([[1.0, 2.0], [4.0, 1000.0]])
    weight = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    (got,) = normalize_advantages([{"advantage": advantage, "weight": weight}], alone)
    kept = torch.tensor([1.0, 2.0, 4.0])
    torch.testing.assert_close(got["advantage"].flatten()[:3], (kept - kept.mean()) / (kept.std() + 1e-8))


def test_minibatches_of_little_or_no_weight_stay_finite():
    advantage = torch.tensor([1.0, 2.0])
    for weight in ([0.0, 0.0], [1.0, 0.0]):
        (got,) = normalize_advantages([{"advantage": advantage, "weight": torch.tensor(weight)}], alone)
        assert got["advantage"].isfinite().all()


def test_advantages_are_normalised_over_all_ranks():
    """Two ranks with the same numbers: their mean, and a standard deviation over twice as many."""
    advantage = torch.randn(6)
    both = torch.cat([advantage, advantage])
    (got,) = normalize_advantages([{"advantage": advantage}], lambda tensor: 2 * tensor)
    torch.testing.assert_close(got["advantage"], (advantage - both.mean()) / (both.std() + 1e-8))
