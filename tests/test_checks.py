from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lit_rl.checks import (
    check_encoder,
    check_finite,
    check_same_shape,
    check_shapes,
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
