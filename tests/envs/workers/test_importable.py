"""Classes and functions that workers on other machines import, or cannot import."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest
import torch

from lit_rl.collect.workers.policy import PolicyPublisher
from lit_rl.envs.workers.vector import pickle_factory
from tests.collect.workers.fleet_toys import Random
from tests.worker_toys import Clocks, Steps


class OfScript(Steps):
    """Stands for a class of the script that runs."""


class PolicyOfScript(Random):
    """Stands for a policy of the script that runs."""


@pytest.fixture(autouse=True)
def as_in_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OfScript, "__module__", "__main__")
    monkeypatch.setattr(PolicyOfScript, "__module__", "__main__")


def test_what_has_a_name_travels():
    make = pickle.loads(pickle_factory(partial(Clocks, wrong=0), by_name=True))
    assert make(3).num_envs == 3


@pytest.mark.parametrize("make", [OfScript, partial(Clocks, wrong=OfScript), {"deep": [OfScript]}])
def test_a_class_of_the_script_is_refused(make: Any):
    message = "^env or wrappers: the class OfScript is of __main__, .* put it into a module of its own$"
    with pytest.raises(TypeError, match=message) as caught:
        pickle_factory(make, by_name=True)
    assert "\n" not in str(caught.value)


def test_a_function_of_the_script_is_refused(monkeypatch: pytest.MonkeyPatch):
    def make_env(num_envs: int) -> Any:
        return Clocks(num_envs)

    make_env.__module__ = "__main__"
    with pytest.raises(TypeError, match=r"the function .*make_env is of __main__"):
        pickle_factory(make_env, by_name=True)


def test_a_policy_of_the_script_is_refused():
    message = (
        "act by the policy, but PolicyOfScript cannot be pickled .the class PolicyOfScript is of __main__"
    )
    with pytest.raises(TypeError, match=message) as caught:
        PolicyPublisher(by_name=True).publish(PolicyOfScript())
    assert "\n" not in str(caught.value)


def test_a_snapshot_is_a_copy():
    """Whoever sends it may take his time: the learner goes on meanwhile."""
    policy, publisher = Random(), PolicyPublisher(by_name=True)
    publisher.publish(policy, 1)
    before = publisher.snapshot()
    with torch.no_grad():
        policy.weight.fill_(0.25)
    publisher.publish(policy, 2)
    after = publisher.snapshot()
    values = [float(weights.layout.views(torch.from_numpy(weights.data))[0]) for weights in (before, after)]
    assert values == [0.5, 0.25]
    assert (before.version, after.version) == (1, 2)
    assert before.published.counter < after.published.counter
