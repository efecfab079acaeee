from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_rl.normalize import ObservationNorm, ReturnScale, RunningNorm, ValueNorm
from lit_rl.types import LeafSpec


def sample(*shape: int, seed: int = 0) -> Tensor:
    return 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_identity_but_clipped_before_the_first_update():
    assert RunningNorm([2], clip=5.0)(torch.tensor([1.5, -7.0])).tolist() == [1.5, -5.0]


def test_by_hand():
    norm = RunningNorm([], epsilon=0.0)
    norm.update(torch.tensor([1.0, 3.0]))
    norm.update(torch.tensor([5.0]))
    assert (norm.count.item(), norm.mean.item()) == (3, 3)
    assert_close(norm.variance.item(), 8 / 3)
    assert_close(norm(torch.tensor(5.0)), torch.tensor(2 / (8 / 3) ** 0.5))


def test_batches_give_the_same_as_all_at_once():
    x = sample(60, 4, 3) + 1e4  # a large mean shows cancellation
    norm = RunningNorm([3])
    for batch in x.split([1, 20, 39]):
        norm.update(batch)
    samples = x.double().flatten(0, 1)
    assert_close(norm.mean, samples.mean(0))
    assert_close(norm.variance, samples.var(0, correction=0))
    assert norm.count.item() == 240


def test_normalised_data_have_mean_0_and_variance_1():
    x = sample(5000, 2)
    norm = RunningNorm([2])
    norm.update(x)
    assert_close(norm(x).mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    assert_close(norm(x).std(0, correction=0), torch.ones(2))
    assert norm(x).dtype == torch.float32


def test_rows_that_are_not_valid_do_not_count():
    x = sample(6, 4, 2, 3)  # (T, N, A, 3) with a mask (T, N)
    valid = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) > 0.4
    expected, masked = RunningNorm([3]), RunningNorm([3])
    expected.update(x[valid])
    x[~valid] = torch.nan
    masked.update(x, valid=valid)
    assert_close(dict(masked.named_buffers()), dict(expected.named_buffers()))


def test_an_update_with_nothing_valid_changes_nothing():
    norm = RunningNorm([2])
    norm.update(sample(5, 2))
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    norm.update(sample(5, 2), valid=torch.zeros(5, dtype=torch.bool))
    assert_close(dict(norm.named_buffers()), before)


def test_a_constant_becomes_zero_and_not_nan():
    norm = RunningNorm([1])
    norm.update(torch.full((10, 1), 7.0))
    assert norm(torch.full((1, 1), 7.0)).item() == 0


def two_ranks(update) -> None:
    """Run ``update(rank, sum_over_ranks)`` for two ranks in one process: replay until all sums are known."""
    sums: list[Tensor] = []
    while True:
        asked: list[Tensor] = []

        def collect(total: Tensor, asked=asked) -> Tensor:
            asked.append(total.clone())
            if len(asked) <= len(sums):
                return sums[len(asked) - 1]
            raise StopIteration

        parts = []
        for rank in range(2):
            asked.clear()
            try:
                update(rank, collect)
            except StopIteration:
                parts.append(asked[-1])
        if not parts:
            return
        sums.append(parts[0] + parts[1])


def test_ranks_agree_on_the_statistics_of_all():
    shards = sample(8, 3), sample(5, 3, seed=1)  # ranks need not hold equally many
    results: dict[int, RunningNorm] = {}

    def update(rank: int, sum_over_ranks) -> None:
        results[rank] = RunningNorm([3])
        results[rank].update(shards[rank], sum_over_ranks=sum_over_ranks)

    two_ranks(update)
    union = RunningNorm([3])
    union.update(torch.cat(shards))
    for rank in range(2):
        assert_close(dict(results[rank].named_buffers()), dict(union.named_buffers()))


def test_state_dict_restores_everything():
    norm, copy = RunningNorm([2]), RunningNorm([2])
    norm.update(sample(9, 2))
    copy.load_state_dict(norm.state_dict())
    x = sample(3, 2, seed=2)
    assert torch.equal(copy(x), norm(x))
    norm.update(x)
    copy.update(x)
    assert_close(copy.state_dict(), norm.state_dict(), rtol=0, atol=0)


def test_nothing_waits_for_the_device():
    # Tensors on the meta device have no values: any branch or index that needs one would raise.
    reward, done = torch.zeros(4, 3, device="meta"), torch.zeros(4, 3, dtype=torch.bool, device="meta")
    scale = ReturnScale(0.9).to("meta")
    for begins in (None, done[0]):
        scale.update(reward, done, begins, valid=done, sum_over_ranks=torch.clone)
    assert scale(reward).is_meta
    value_norm = ValueNorm().to("meta")
    value_norm.update(reward, valid=done, sum_over_ranks=torch.clone)
    assert value_norm.denormalize(value_norm(reward)).is_meta


def test_update_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"must end in the shape \(3,\); got \(5, 2\)"):
        RunningNorm([3]).update(sample(5, 2))


SPEC = {
    "position": LeafSpec([3]),
    "type": LeafSpec([], "int64", [4]),
    "action_mask": LeafSpec([2], "int8"),
    "camera.left": {"depth": LeafSpec([2, 2])},
}


def test_nested_observations_are_normalised_leaf_by_leaf():
    norm = ObservationNorm(SPEC, clip=3.0)
    obs = {
        "position": sample(50, 3),
        "type": torch.randint(4, (50,)),
        "action_mask": torch.ones(50, 2, dtype=torch.int8),
        "camera.left": {"depth": sample(50, 2, 2)},
    }
    norm.update(obs)
    result = norm(obs)
    expected = RunningNorm([2, 2], clip=3.0)
    expected.update(obs["camera.left"]["depth"])
    assert_close(result["camera.left"]["depth"], expected(obs["camera.left"]["depth"]))
    assert result["position"].abs().max() <= 3
    assert result["type"] is obs["type"]
    assert result["action_mask"] is obs["action_mask"]
    assert list(result) == list(obs)


def test_plain_and_discrete_observations():
    norm = ObservationNorm(LeafSpec([3]))
    x = sample(50, 3)
    norm.update(x, valid=torch.arange(50) < 10)
    expected = RunningNorm([3])
    expected.update(x[:10])
    assert_close(norm(x), expected(x))
    discrete = ObservationNorm(LeafSpec([], "int64", [4]))
    category = torch.randint(4, (5,))
    discrete.update(category)
    assert discrete(category) is category


def test_return_scale_divides_by_the_std_of_running_returns():
    scale = ReturnScale(gamma=0.5, epsilon=0.0)
    reward = torch.tensor([[1.0], [1.0], [4.0]])
    done = torch.tensor([[False], [True], [False]])
    scale.update(reward, done)
    running = torch.tensor([1.0, 1.5, 4.0])  # starts anew after the end
    assert_close(scale(reward), reward / running.std(correction=0))
    assert scale(torch.tensor(1e6)).item() == 10


def test_return_scale_continues_over_updates_and_from_a_state():
    reward, done = sample(12, 3), torch.rand(12, 3, generator=torch.Generator().manual_seed(1)) < 0.2
    whole, parts = ReturnScale(0.9), ReturnScale(0.9)
    assert parts.get_state() == {}
    whole.update(reward, done)
    parts.update(reward[:5], done[:5])
    resumed = ReturnScale(0.9)
    resumed.load_state_dict(parts.state_dict())
    resumed.set_state(parts.get_state())
    resumed.update(reward[5:], done[5:])
    assert_close(resumed.state_dict(), whole.state_dict())
    assert_close(resumed.get_state(), whole.get_state())


def test_running_returns_are_not_a_buffer_which_ddp_would_overwrite():
    scale = ReturnScale(0.9)
    scale.update(sample(4, 3), torch.zeros(4, 3, dtype=torch.bool))
    assert all(buffer.shape == () for buffer in scale.buffers())


def test_return_scale_skips_rows_that_are_not_valid():
    expected, masked = ReturnScale(0.9), ReturnScale(0.9)
    reward, done = sample(3, 2), torch.tensor([[False, True], [False, False], [False, False]])
    valid = torch.tensor([[True, True], [True, False], [True, True]])
    reward[1, 1] = 0.0
    masked.update(reward, done, valid=valid)
    returns = torch.stack([reward[0, 0], reward[0, 1], reward[1, 0] + 0.9 * reward[0, 0], reward[2, 1]])
    last = reward[2, 0] + 0.9 * returns[2]
    expected.moments.update(torch.cat([returns, last.reshape(1)]))
    assert_close(masked.state_dict(), expected.state_dict(), rtol=1e-6, atol=0)


def test_return_scale_refuses_another_number_of_environments():
    scale = ReturnScale(0.9)
    scale.update(sample(4, 3), torch.zeros(4, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"start_N must have the shape of reward_N, \(2,\); got \(3,\)"):
        scale.update(sample(4, 2), torch.zeros(4, 2, dtype=torch.bool))


def test_return_scale_drops_what_ran_before_where_an_episode_begins():
    """As after a resume, when environments could not be restored; the statistics stay."""
    goes_on = torch.zeros(1, 3, dtype=torch.bool)
    scale = ReturnScale(0.5)
    scale.update(torch.tensor([[2.0, 4.0, 8.0]]), goes_on)
    begins = torch.tensor([True, False, True])
    scale.update(torch.ones(1, 3), goes_on, begins)
    assert scale.get_state()["return_N"].tolist() == [1, 3, 1]
    assert scale.moments.count == 6
    assert_close(scale.moments.mean.item(), (2 + 4 + 8 + 1 + 3 + 1) / 6)
    scale.update(torch.ones(1, 2), goes_on[:, :2], begins[[0, 0]])  # another number, all of which begin
    assert scale.get_state()["return_N"].tolist() == [1, 1]
    assert scale.moments.count == 8


def slow_value_norm(batches: list[Tensor], decay: float) -> tuple[float, float]:
    """Mean and deviation with weights written out: the batch before the last one counts ``decay`` times."""
    weights = [(1 - decay) * decay**age for age in range(len(batches))][::-1]
    total = sum(weights)  # 1 - decay^updates: what is missing to 1 is the bias of the start at 0
    mean = sum(w * x.mean().item() for w, x in zip(weights, batches, strict=True)) / total
    square = sum(w * x.square().mean().item() for w, x in zip(weights, batches, strict=True)) / total
    return mean, (square - mean**2) ** 0.5


@pytest.mark.parametrize("decay", [0.5, 0.99999])
def test_value_norm_against_a_slow_twin(decay: float):
    norm, batches = ValueNorm(decay), [sample(7, 3, seed=seed).double() * 10**seed for seed in range(4)]
    for i, batch in enumerate(batches):
        norm.update(batch)
        mean, std = slow_value_norm(batches[: i + 1], decay)
        assert norm.mean.item() == pytest.approx(mean)
        assert norm.std.item() == pytest.approx(std)
    x, (mean, std) = sample(5), slow_value_norm(batches, decay)
    assert_close(norm(x), (x - mean) / std)
    assert_close(norm.denormalize(norm(x)), x, rtol=1e-4, atol=1e-3)
    assert norm(x).dtype == torch.float32


def test_value_norm_is_known_exactly_after_one_update():
    norm, x = ValueNorm(), torch.tensor([1.0, 2.0])
    assert torch.equal(norm(x), norm.denormalize(x))  # nothing is known yet
    norm.update(torch.tensor([2.0, 8.0]))
    assert (norm.mean.item(), norm.std.item()) == (5, 3)


def test_value_norm_of_equal_returns_keeps_a_floor():
    norm = ValueNorm(min_variance=0.04)
    norm.update(torch.full((9,), 7.0))
    assert_close(norm(torch.tensor([7.0, 8.0])), torch.tensor([0.0, 5.0]))


def test_value_norm_skips_what_does_not_count():
    x, valid = sample(6, 4, 2), torch.rand(6, 4, 2, generator=torch.Generator().manual_seed(1)) > 0.4
    expected, masked = ValueNorm(), ValueNorm()
    expected.update(x[valid])
    x[~valid] = torch.nan
    masked.update(x, valid=valid)
    before = {name: value.clone() for name, value in masked.named_buffers()}
    assert_close(before, dict(expected.named_buffers()))
    masked.update(x, valid=torch.zeros_like(valid))
    assert_close(dict(masked.named_buffers()), before)
    empty = ValueNorm()
    empty.update(x, valid=torch.zeros_like(valid))
    assert (empty.mean.item(), empty.std.item()) == (0, 1)


def test_ranks_agree_on_a_value_norm():
    shards, norms = (sample(8, 3), sample(5, 3, seed=1) * 4), (ValueNorm(), ValueNorm())
    two_ranks(lambda rank, total: norms[rank].update(shards[rank], sum_over_ranks=total))
    union = ValueNorm()
    union.update(torch.cat(shards))
    for norm in norms:
        assert_close((norm.mean, norm.std), (union.mean, union.std))
