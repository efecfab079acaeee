"""Every argument of every class that a configuration can name declares what it may be, and is held to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from torch import nn

from lit_rl import PPO
from lit_rl.arguments import (
    Bound,
    Count,
    Finite,
    Positive,
    Range,
    check_arguments,
    declared,
    plain,
    shown,
    without_range,
)
from tests import nameable

NAN, INFINITY = float("nan"), float("inf")


class Tuned:
    def __init__(
        self,
        clip: Annotated[float, Range(above=0, at_most=1)] = 0.2,
        epochs: Count = 3,
        delta: Positive | None = None,
        angle: Annotated[float, Range(at_least=-1, below=2)] = 0.0,
        offset: Finite = 0.0,
        highest: Bound = INFINITY,
        name: str = "x",
        kind: Literal["tanh", "relu"] = "tanh",
        threads: Count | Literal["auto"] = "auto",
        hidden: tuple[Count, ...] = (8,),
        pair: tuple[Count, Positive] = (1, 2.0),
        weights: Mapping[str, Positive] | None = None,
        places: Sequence[Sequence[Finite]] = (),
        is_on: bool = True,
    ) -> None:
        check_arguments(Tuned, locals())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip": 0}, "clip = 0, expected 0 < clip <= 1"),
        ({"clip": 1.01}, "clip = 1.01, expected 0 < clip <= 1"),
        ({"clip": NAN}, "clip = nan, expected 0 < clip <= 1"),
        ({"clip": INFINITY}, "clip = inf, expected a finite number with 0 < clip <= 1"),
        ({"epochs": 0}, "epochs = 0, expected epochs >= 1"),
        ({"delta": 1e300}, "delta = 1e+300, expected a finite number of 32 bits with delta > 0, or null"),
        ({"epochs": 2**63}, f"epochs = {2**63}, expected a whole number of 64 bits with epochs >= 1"),
        ({"delta": -3.0}, "delta = -3.0, expected delta > 0, or null"),
        ({"delta": np.float32(-3)}, "delta = -3.0, expected delta > 0, or null"),
        ({"angle": 2}, "angle = 2, expected -1 <= angle < 2"),
        ({"offset": INFINITY}, "offset = inf, expected a finite number"),
        ({"offset": NAN}, "offset = nan, expected a finite number"),
        ({"highest": NAN}, "highest = nan, expected a finite number"),
        ({"kind": "rleu"}, "kind = 'rleu', expected tanh or relu. Did you mean relu?"),
        ({"threads": 0}, "threads = 0, expected threads >= 1, or auto"),
        ({"hidden": (8, -1)}, "hidden[1] = -1, expected hidden[1] >= 1"),
        ({"hidden": np.array([8, 0])}, "hidden[1] = 0, expected hidden[1] >= 1"),
        ({"pair": [1]}, "pair = [1], expected a list of 2"),
        ({"weights": {"a": -1}}, "weights['a'] = -1, expected weights['a'] > 0"),
        ({"places": [[0.0], [NAN]]}, "places[1][0] = nan, expected a finite number"),
    ],
)
def test_a_value_outside_its_declared_range(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=f"^{re.escape('Tuned: ' + message)}$"):
        Tuned(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": "3"}, "epochs = '3', expected a whole number with epochs >= 1"),
        ({"epochs": True}, "epochs = True, expected a whole number with epochs >= 1"),
        ({"epochs": None}, "epochs = None, expected a whole number with epochs >= 1"),
        ({"epochs": 1.5}, "epochs = 1.5, expected a whole number with epochs >= 1"),
        ({"clip": "0.1"}, "clip = '0.1', expected a number with 0 < clip <= 1"),
        ({"delta": []}, "delta = [], expected a number with delta > 0, or null"),
        ({"name": 3}, "name = 3, expected text"),
        ({"hidden": 8}, "hidden = 8, expected a list"),
        ({"hidden": "88"}, "hidden = '88', expected a list"),
        ({"weights": 3}, "weights = 3, expected keys with values, or null"),
        ({"is_on": "no"}, "is_on = 'no', expected true or false"),
        ({"is_on": 1}, "is_on = 1, expected true or false"),
    ],
)
def test_a_value_of_another_type(arguments: dict[str, Any], message: str):
    with pytest.raises(TypeError, match=f"^{re.escape('Tuned: ' + message)}$"):
        Tuned(**arguments)


def test_values_at_the_ends_of_their_ranges_and_those_of_numpy():
    Tuned(clip=1, epochs=1, delta=1e-9, angle=-1, highest=-INFINITY, weights={}, places=[[1, 2.0], []])
    Tuned(clip=np.float64(0.5), epochs=np.int64(3), is_on=np.bool_(False), hidden=np.array([8, 8]))
    Tuned(hidden=[8, np.int32(4)], pair=[3, 0.5], threads=4, weights={"a": np.float32(1)})


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
        Made(encoder=0)
    with pytest.raises(TypeError, match=r"^Made: activation = None, expected .* that makes a Module$"):
        Made(activation=None)


def test_a_value_of_any_size_is_shown_in_part():
    for value in ("x" * 9999, [7] * 9999, 10**999, {"a\n": "b\n" * 999}, np.arange(9999)):
        assert len(shown(plain(value))) < 200
        assert "\n" not in shown(value)


def test_numbers_of_numpy_become_pythons_own_at_any_depth():
    given = {"a": (np.int64(1), [np.float32(0.5)]), "b": np.array([[1, 2]]), "c": "text"}
    assert plain(given) == {"a": (1, [0.5]), "b": [[1, 2]], "c": "text"}
    assert type(plain(given)["a"][0]) is int


CLASSES = nameable.classes()


def test_the_list_of_classes_holds_what_configurations_name():
    names = {found.__name__ for found in CLASSES}
    assert {"PPO", "RolloutDataModule", "GNNEncoder", "MapElites", "Go2Task", "ArmTask", "Scenario"} <= names
    assert {"UAVNetwork", "PlanarArms", "Go2Batch", "AliceAndBob", "Ants", "EntityReader"} <= names


@pytest.mark.parametrize("owner", CLASSES, ids=lambda found: found.__name__)
def test_every_number_declares_its_range(owner: type):
    missing = [name for name, hint in declared(owner).items() if without_range(hint)]
    assert [f"declare the range of {name}, as in Annotated[float, Range(above=0)]" for name in missing] == []


@pytest.mark.parametrize("owner", CLASSES, ids=lambda found: found.__name__)
def test_every_argument_refuses_what_does_not_fit_and_says_its_name(owner: type):
    for name, value in nameable.bad_values(owner):
        with pytest.raises((ValueError, TypeError)) as refused:
            owner(**nameable.required(owner) | {name: value})
        line = str(refused.value)
        assert name in line, (value, line)
        assert len(line.splitlines()) == 1
        assert len(line) < 300


def test_a_class_without_declarations_is_missed():
    class Forgetful:
        def __init__(self, width: int = 3, rates: Sequence[float] = (), name: str = "") -> None:
            pass

    assert [name for name, hint in declared(Forgetful).items() if without_range(hint)] == ["width", "rates"]


def test_the_arguments_that_a_constructor_hands_on_are_checked():
    assert {"gnn", "clip"} <= declared(nameable.by_name("PredictivePPO")).keys()
    assert declared(PPO)["learning_rate"].__metadata__ == (Range(above=0, at_most=1),)
