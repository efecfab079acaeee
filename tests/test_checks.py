from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch import nn

import lit_rl
from lit_rl.checks import (
    Count,
    Positive,
    Range,
    check_arguments,
    check_encoder,
    check_finite,
    check_same_shape,
    check_shapes,
    declared_ranges,
    nearest,
)


def test_check_shapes_reads_the_axes_from_the_names():
    assert check_shapes(reward_TN=torch.zeros(5, 3), last_value_N=torch.zeros(3)) == {"T": 5, "N": 3}


def test_check_shapes_names_the_tensors_that_disagree():
    with pytest.raises(
        ValueError, match=r"last_value_N has N = 4, but reward_TN has N = 3; .*\(4,\) and \(5, 3\)"
    ):
        check_shapes(reward_TN=torch.zeros(5, 3), last_value_N=torch.zeros(4))


def test_check_shapes_wants_the_number_of_axes():
    with pytest.raises(ValueError, match=r"reward_TN must have the axes \(T, N\), got shape \(5,\)"):
        check_shapes(reward_TN=torch.zeros(5))


def test_check_same_shape_refuses_what_would_broadcast():
    check_same_shape(value_B=torch.zeros(4), return_B=torch.zeros(4))
    with pytest.raises(ValueError, match=r"return_B must have the shape of value_B, \(4, 1\); got \(4,\)"):
        check_same_shape(value_B=torch.zeros(4, 1), return_B=torch.zeros(4))


def test_check_finite_accepts_finite_and_integer_tensors():
    check_finite("update", loss=torch.tensor(1.0), count=torch.tensor(3), reward_TN=torch.zeros(2, 2))
    check_finite("update", count=torch.tensor(3))


def test_check_finite_names_tensor_step_and_environment():
    reward_TN = torch.zeros(4, 3)
    reward_TN[2, 1] = torch.nan
    reward_TN[3, 0] = torch.inf
    message = "collecting: reward_TN is nan at step 2, environment 1; 2 of its 12 values are not finite"
    with pytest.raises(FloatingPointError, match=message):
        check_finite("collecting", value_TN=torch.zeros(4, 3), reward_TN=reward_TN)


def test_check_finite_without_axes_in_the_name():
    with pytest.raises(FloatingPointError, match=r"update: loss is inf; 1 of its 1 values"):
        check_finite("update", loss=torch.tensor(torch.inf))
    with pytest.raises(FloatingPointError, match=r"update: weight is -inf at index \(0, 1\)"):
        check_finite("update", weight=torch.tensor([[0.0, -torch.inf]]))


def test_nearest_guesses_or_stays_silent():
    assert nearest("rewrad", ["reward", "action"]) == " Did you mean reward?"
    assert nearest("xyz", ["reward", "action"]) == ""


class Tuned:
    def __init__(
        self,
        clip: Annotated[float, Range(above=0, at_most=1)] = 0.2,
        epochs: Count = 3,
        delta: Positive | None = None,
        angle: Annotated[float, Range(at_least=-1, below=2)] = 0.0,
        name: str = "x",
    ) -> None:
        check_arguments(Tuned, locals())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 0}, "Tuned: clip = 0, expected 0 < clip <= 1"),
        ({"clip": 1.01}, "Tuned: clip = 1.01, expected 0 < clip <= 1"),
        ({"clip": float("nan")}, "Tuned: clip = nan, expected 0 < clip <= 1"),
        ({"epochs": 0}, "Tuned: epochs = 0, expected epochs >= 1"),
        ({"delta": -3.0}, "Tuned: delta = -3.0, expected delta > 0, or null"),
        ({"angle": 2}, "Tuned: angle = 2, expected -1 <= angle < 2"),
    ],
)
def test_a_value_outside_its_declared_range(arguments: dict[str, float], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Tuned(**arguments)


@pytest.mark.parametrize(("value", "shown"), [("3", "'3'"), (True, "True"), (None, "None")])
def test_a_value_that_is_no_number(value: object, shown: str):
    with pytest.raises(TypeError, match=rf"^Tuned: epochs = {shown}, expected a number with epochs >= 1$"):
        Tuned(epochs=value)


def test_values_at_the_ends_of_their_ranges():
    Tuned(clip=1, epochs=1, delta=1e-9, angle=-1)
    assert [(name, allows_none) for name, _, allows_none in declared_ranges(Tuned)] == [
        ("clip", False), ("epochs", False), ("delta", True), ("angle", False),
    ]  # fmt: skip


UNBOUNDED = {"seed", "threads", "target_entropy", "entropy_coef"}
"""Numbers that may be anything, and one that has a check of its own."""


@pytest.mark.parametrize("name", lit_rl.__all__)
def test_every_number_of_a_learner_or_data_module_declares_its_range(name: str):
    owner = getattr(lit_rl, name)
    if not (isinstance(owner, type) and issubclass(owner, LightningModule | LightningDataModule)):
        return
    numbers = {
        argument
        for argument, hint in get_type_hints(owner.__init__).items()
        if {int, float} & {hint, *get_args(hint)} and get_origin(hint) is not tuple
    }
    assert numbers - UNBOUNDED == {argument for argument, _, _ in declared_ranges(owner)}
    outside = dict.fromkeys(numbers - UNBOUNDED, -1)
    for argument, value in outside.items():
        needed = {"env": "CartPole-v1"} if "env" in get_type_hints(owner.__init__) else {}
        with pytest.raises(ValueError, match=f"{name}: {argument} = -1, expected "):
            owner(**needed, **{argument: value})


class Made:
    def __init__(
        self,
        encoder: Callable[[int], nn.Module] | None = None,
        activation: Callable[[], nn.Module] = nn.ReLU,
        either: str | Callable[[], nn.Module] = "relu",
    ) -> None:
        check_arguments(Made, locals())


def test_what_makes_something_can_be_called():
    for arguments in ((), (nn.Flatten, nn.Tanh), (lambda _: nn.Flatten(),)):
        Made(*arguments)
    message = r"^Made: encoder = 0, expected a class or function that makes a Module, or null$"
    with pytest.raises(TypeError, match=message):
        Made(encoder=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^Made: activation = None, expected .* that makes a Module$"):
        Made(activation=None)  # type: ignore[arg-type]


def test_an_encoder_is_a_module_that_knows_its_number_of_features():
    encoder = nn.Linear(3, 5)
    assert check_encoder(encoder) == 5
    encoder.out_features = np.int64(7)  # type: ignore[assignment]
    assert check_encoder(encoder) == 7
    with pytest.raises(
        TypeError, match=r"^encoder made 0, expected an nn\.Module: give a class that takes the"
    ):
        check_encoder(0)
    for wrong in (0, None, True, "5"):
        encoder.out_features = wrong  # type: ignore[assignment]
        with pytest.raises(
            TypeError, match=f"^encoder made a Linear with out_features = {wrong!r}, expected"
        ):
            check_encoder(encoder)
