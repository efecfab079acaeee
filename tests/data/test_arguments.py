from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lit_rl import ReplayDataModule, RolloutDataModule
from lit_rl.data.arguments import EnvironmentArguments
from tests.worker_toys import Uneven


@pytest.mark.parametrize("name", ["num_envs", "eval_episodes"])
def test_arguments_out_of_range(name: str):
    for kind in (RolloutDataModule, ReplayDataModule):
        with pytest.raises(ValueError, match=rf"^{kind.__name__}: {name} = 0, expected 1 <= {name} <= "):
            kind("CartPole-v1", **{name: 0})


def test_a_wrong_number_of_workers():
    for num_workers, expected in (
        (0, "num_workers = 0, expected 1 <= num_workers <= 1000, or null"),
        (9, "num_workers = 9 is more than num_envs = 8"),
    ):
        with pytest.raises(ValueError, match=expected):
            RolloutDataModule(Uneven, vectorization="async", num_workers=num_workers)


@pytest.mark.parametrize(
    ("given", "hint"), [("sampled", " Did you mean sample?"), ("stochastic", ""), (None, "")]
)
def test_what_evaluations_cannot_play(given: Any, hint: str):
    for kind in (RolloutDataModule, ReplayDataModule):
        expected = f": eval_policy = {given!r}, expected greedy or sample"
        with pytest.raises(ValueError, match=expected) as caught:
            kind("CartPole-v1", eval_policy=given)
        assert str(caught.value).endswith(f"or sample.{hint}" if hint else "or sample")
        assert kind("CartPole-v1").eval_policy == "greedy"


def test_they_cannot_be_changed():
    arguments = EnvironmentArguments("CartPole-v1", 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        arguments.num_envs = 3


@pytest.mark.parametrize("kind", [RolloutDataModule, ReplayDataModule])
def test_a_wrong_timeout(kind: type):
    for vectorization, step_timeout_s, expected in (
        (
            "async",
            0,
            rf"^{kind.__name__}: step_timeout_s = 0, expected 0 < step_timeout_s",
        ),
        ("auto", 60, "^step_timeout_s = 60 needs .* collector = workers or ray, got auto and inline: no"),
    ):
        with pytest.raises(ValueError, match=expected) as caught:
            kind("CartPole-v1", vectorization=vectorization, step_timeout_s=step_timeout_s)
        assert "\n" not in str(caught.value)
