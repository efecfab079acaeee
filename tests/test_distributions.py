from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as slow
from torch.testing import assert_close

from lit_rl.distributions import Categorical, DiagNormal, MultiCategorical, distribution_for, mask_logits
from lit_rl.types import ActionSpec


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_categorical_agrees_with_its_slow_twin():
    logits, action = torch.randn(4, 3, 5), torch.randint(5, (4, 3))
    ours, twin = Categorical(5), slow.Categorical(logits=logits)
    assert_close(ours.log_prob((logits,), action), twin.log_prob(action))
    assert_close(ours.entropy((logits,)), twin.entropy())
    assert_close(ours.mode((logits,)), logits.argmax(-1))
    assert ours.num_outputs == 5


def test_multi_categorical_agrees_with_its_slow_twin():
    logits = torch.randn(7, 6)
    action = torch.stack([torch.randint(2, (7,)), torch.randint(4, (7,))], -1)
    ours = MultiCategorical([2, 4])
    twins = [slow.Categorical(logits=logits[:, :2]), slow.Categorical(logits=logits[:, 2:])]
    expected = sum(twin.log_prob(action[:, e]) for e, twin in enumerate(twins))
    assert_close(ours.log_prob((logits,), action), expected)
    assert_close(ours.entropy((logits,)), twins[0].entropy() + twins[1].entropy())
    assert_close(ours.mode((logits,)), torch.stack([twin.probs.argmax(-1) for twin in twins], -1))
    assert ours.num_outputs == 6
    assert ours.sample((logits,)).shape == (7, 2)


@pytest.mark.parametrize("shared", [True, False])
def test_diag_normal_agrees_with_its_slow_twin(shared: bool):
    mean, action = torch.randn(2, 4, 3)
    log_std = torch.randn(3) if shared else torch.randn(4, 3)
    ours, twin = DiagNormal(3), slow.Independent(slow.Normal(mean, log_std.exp()), 1)
    assert_close(ours.log_prob((mean, log_std), action), twin.log_prob(action))
    assert_close(ours.entropy((mean, log_std)), twin.entropy())
    assert_close(ours.mode((mean, log_std)), mean)
    assert ours.num_outputs == 3


@pytest.mark.parametrize("kind", ["discrete", "multi_discrete", "box"])
def test_both_at_once_equal_each_alone(kind):
    distribution, parameters, action = {
        "discrete": (Categorical(5), (torch.randn(4, 5),), torch.randint(5, (4,))),
        "multi_discrete": (MultiCategorical([2, 3]), (torch.randn(4, 5),), torch.randint(2, (4, 2))),
        "box": (DiagNormal(2), (torch.randn(4, 2), torch.randn(2)), torch.randn(4, 2)),
    }[kind]
    log_prob, entropy = distribution.log_prob_and_entropy(parameters, action)
    assert torch.equal(log_prob, distribution.log_prob(parameters, action))
    assert torch.equal(entropy, distribution.entropy(parameters))


def test_sampling_frequencies():
    probability = torch.tensor([0.1, 0.2, 0.7])
    logits = probability.log().expand(20_000, 3)
    frequency = Categorical(3).sample((logits,)).bincount(minlength=3) / 20_000
    assert_close(frequency, probability, atol=0.02, rtol=0)
    action = MultiCategorical([3, 3]).sample((torch.cat([logits, logits], -1),))
    joint = (action[:, 0] * 3 + action[:, 1]).bincount(minlength=9).view(3, 3) / 20_000
    assert_close(joint, probability.outer(probability), atol=0.02, rtol=0)


def test_normal_sample_moments():
    sample = DiagNormal(2).sample((torch.ones(20_000, 2), torch.tensor([0.0, -1.0])))
    assert_close(sample.mean(0), torch.ones(2), atol=0.03, rtol=0)
    assert_close(sample.std(0), torch.tensor([1.0, math.exp(-1)]), atol=0.03, rtol=0)


def test_masked_actions_are_never_taken_and_gradients_stay_finite():
    logits = torch.zeros(1000, 3, requires_grad=True)
    distribution = Categorical(3)
    parameters = (mask_logits(logits, torch.tensor([1, 0, 1])),)
    action = distribution.sample(parameters)
    assert set(action.tolist()) == {0, 2}
    entropy = distribution.entropy(parameters)
    assert_close(entropy, torch.full((1000,), math.log(2)))
    assert_close(distribution.log_prob(parameters, action), torch.full((1000,), -math.log(2)))
    (entropy + distribution.log_prob(parameters, action)).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, 1] == 0).all()


def test_a_single_allowed_action_has_no_entropy():
    parameters = (mask_logits(torch.randn(2, 3), torch.tensor([False, True, False])),)
    assert (Categorical(3).entropy(parameters) == 0).all()
    assert Categorical(3).mode(parameters).tolist() == [1, 1]


def test_a_mask_covers_every_action_dimension():
    distribution = MultiCategorical([2, 3])
    parameters = (mask_logits(torch.randn(50, 5), torch.tensor([1, 0, 0, 0, 1])),)
    assert (distribution.sample(parameters) == torch.tensor([0, 2])).all()


@pytest.mark.parametrize(
    ("distribution", "parameters"),
    [
        (Categorical(4), (torch.randn(8, 4),)),
        (MultiCategorical([2, 2]), (torch.randn(8, 4),)),
        (DiagNormal(4), (torch.randn(8, 4), torch.zeros(4))),
    ],
)
def test_bfloat16_parameters_give_float32_log_probs(distribution, parameters):
    low = tuple(x.bfloat16() for x in parameters)
    high = tuple(x.float() for x in low)
    action = distribution.sample(low)
    assert_close(distribution.log_prob(low, action), distribution.log_prob(high, action), rtol=0, atol=0)
    assert distribution.log_prob(low, action).dtype == distribution.entropy(low).dtype == torch.float32
    assert distribution.log_prob(low, action).shape == distribution.entropy(low).shape == (8,)


@pytest.mark.parametrize("distribution", [Categorical(4), MultiCategorical([1, 3]), DiagNormal(4)])
def test_everything_compiles_into_one_graph(distribution):
    def act(first, second):
        parameters = (first,) if not isinstance(distribution, DiagNormal) else (first, second)
        if not isinstance(distribution, DiagNormal):
            parameters = (mask_logits(parameters[0], second == 0),)
        action = distribution.sample(parameters)
        log_prob = distribution.log_prob(parameters, action)
        return action, log_prob, distribution.entropy(parameters), distribution.mode(parameters)

    first, second = torch.randn(8, 4), torch.zeros(4)
    compiled = torch.compile(act, fullgraph=True, backend="eager")
    torch.manual_seed(1)
    expected = act(first, second)
    torch.manual_seed(1)
    for ours, eager in zip(compiled(first, second), expected, strict=True):
        assert_close(ours, eager)


def test_distribution_for_every_kind_of_action():
    assert distribution_for(ActionSpec("discrete", categories=[3])) == Categorical(3)
    assert distribution_for(ActionSpec("multi_discrete", [2], [3, 4])) == MultiCategorical([3, 4])
    assert distribution_for(ActionSpec("box", [2], low=[-1, -1], high=[1, 1])) == DiagNormal(2)


def test_distribution_for_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="must be discrete, multi_discrete or box; got 'text'"):
        distribution_for(ActionSpec("text"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="A discrete ActionSpec needs the number of choices"):
        distribution_for(ActionSpec("discrete"))
