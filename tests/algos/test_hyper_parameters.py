"""Values of a checkpoint become arguments: plain for the command line, objects for Python."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import nn

from lit_rl.algos.argument_types import argument_hints
from lit_rl.algos.hyper_parameters import SavedValues, saved_hyper_parameters
from lit_rl.algos.names import NamedClasses
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.types import EnvSpec
from tests.cases import shipped_learners


class Schedule:
    def __init__(self, start: float, after: Schedule | None = None) -> None:
        self.start, self.after = start, after


class Colour(Enum):
    RED = 1


@dataclass
class Settings:
    rate: float
    shape: tuple[int, ...] = ()
    schedule: Schedule | None = None


def make_schedule(start: float) -> Schedule:
    return Schedule(start)


class Owner:
    def __init__(
        self,
        encoder: Callable[[EnvSpec], nn.Module] | None = None,
        schedule: Schedule | None = None,
        schedules: list[Schedule] | None = None,
        kind: type[Schedule] = Schedule,
        later: Callable[[float], Schedule] | None = None,
        anything: Any = None,
        name: str = "",
        mode: Literal["fast", "slow"] | int = "fast",
        either: str | Callable[[], nn.Module] = "",
        colour: Colour = Colour.RED,
        path: Path | None = None,
        pair: tuple[int, float] = (1, 1.0),
        settings: Settings | None = None,
        weights: dict[str, float] | None = None,
        untyped=None,
    ) -> None: ...


HINTS = argument_hints(Owner)
HERE = __name__
PERCEPTRON = "lit_rl.encoders.perceptron.PerceptronEncoder"


def argument(name: str, value: Any, *given: Any, for_parser: bool = False) -> Any:
    values = SavedValues(NamedClasses("a.ckpt", given), "give {argument}", for_parser)
    return values.argument(value, HINTS.get(name, Any), name)


def test_a_class_to_make_later_becomes_what_makes_it():
    made = argument("encoder", {"class_path": PERCEPTRON, "init_args": {"hidden": [8, 4]}})
    assert isinstance(made, partial)
    assert made.func is PerceptronEncoder
    assert made.keywords == {"hidden": (8, 4)}
    assert argument("encoder", {"class_path": PERCEPTRON}) is PerceptronEncoder
    assert argument("encoder", PERCEPTRON) is PerceptronEncoder
    assert argument("encoder", None) is None


def test_an_instance_is_made_with_those_within_it():
    inner = {"class_path": f"{HERE}.Schedule", "init_args": {"start": 1.0}}
    outer = {"class_path": "__main__.Schedule", "init_args": {"start": 2.0, "after": inner}}
    made = argument("schedule", outer, Schedule)
    assert (made.start, made.after.start, made.after.after) == (2.0, 1.0, None)
    (first, second) = argument("schedules", [inner, outer], Schedule)
    assert (first.start, second.start) == (1.0, 2.0)


def test_a_function_that_the_caller_named():
    assert argument("later", f"{HERE}.make_schedule", make_schedule) is make_schedule
    spec = {"class_path": f"{HERE}.make_schedule", "init_args": {"start": 3.0}}
    assert argument("schedule", spec, make_schedule).start == 3.0
    assert (
        argument("later", f"{HERE}.make_schedule", make_schedule, for_parser=True) == f"{HERE}.make_schedule"
    )


def test_plain_values_become_what_the_type_says():
    assert argument("colour", "RED") is Colour.RED
    assert argument("path", "a/b") == Path("a/b")
    assert argument("pair", [3, 0.5]) == (3, 0.5)
    assert argument("kind", f"{HERE}.Schedule", Schedule) is Schedule
    spec = {"class_path": f"{HERE}.Schedule", "init_args": {"start": 1.0}}
    settings = argument("settings", {"rate": 0.1, "shape": [2, 3], "schedule": spec}, Schedule)
    assert isinstance(settings, Settings)
    assert (settings.rate, settings.shape, settings.schedule and settings.schedule.start) == (
        0.1,
        (2, 3),
        1.0,
    )
    for name, value in {
        "weights": {"a": 1.0},
        "name": "os.system",
        "mode": "slow",
        "either": "os.system",
    }.items():
        assert argument(name, value) == value
    assert argument("untyped", {"a": ["x", 1]}) == {"a": ["x", 1]}


def test_for_a_parser_all_stays_plain():
    spec = {"class_path": "__main__.Schedule", "init_args": {"start": 1.0}}
    made = argument("settings", {"rate": 0.1, "shape": [2], "schedule": spec}, Schedule, for_parser=True)
    expected = {"class_path": f"{HERE}.Schedule", "init_args": {"start": 1.0}}
    assert made == {"rate": 0.1, "shape": [2], "schedule": expected}
    assert argument("encoder", PERCEPTRON, for_parser=True) == {"class_path": PERCEPTRON}
    assert argument("kind", "__main__.Schedule", Schedule, for_parser=True) == f"{HERE}.Schedule"
    for name, value in {"name": "os.system", "mode": "slow", "colour": "RED", "pair": [1, 2.0]}.items():
        assert argument(name, value, for_parser=True) == value


SPEC = {"class_path": "os.system", "init_args": {"command": "true"}}


@pytest.mark.parametrize("for_parser", [False, True])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("encoder", SPEC, "names os.system as encoder; a checkpoint is data"),
        ("schedule", SPEC, "names os.system as schedule; "),
        ("schedules", [SPEC], r"names os.system as schedules\[0\]; .*: if it is yours, give schedules$"),
        ("kind", "os.system", "names os.system as kind; "),
        ("later", "os.system", "names os.system as later; "),
        ("anything", SPEC, "holds os.system for anything, expected no class: if it is yours, give anything"),
        (
            "untyped",
            {"a": SPEC},
            "holds os.system for untyped.a, expected no class: if it is yours, give untyped",
        ),
        ("unknown", SPEC, "holds os.system for unknown, expected no class"),
        ("name", SPEC, "holds os.system for name, expected no class"),
        ("weights", {"a": SPEC}, "holds os.system for weights.a, expected no class"),
        ("settings", {"schedule": SPEC}, "names os.system as settings.schedule; "),
        ("settings", {"schedule.class_path": "os.system"}, "for settings, expected names as keys"),
        ("encoder", {"class_path": PERCEPTRON, "init_args": [1]}, "expected class_path and init_args"),
        ("encoder", {"class_path": PERCEPTRON, "more": 1}, "expected class_path and init_args"),
        (
            "encoder",
            {"class_path": PERCEPTRON, "dict_kwargs": {"a": SPEC}},
            "for encoder.a, expected no class",
        ),
        ("mode", "medium", "holds medium for mode, expected no such text: if it is yours, give mode"),
        ("pair", [1], "expected 2 entries"),
        ("name", torch.zeros(2), "expected plain data"),
        ("name", print, "expected plain data"),
    ],
)
def test_what_is_refused(name: str, value: Any, message: str, for_parser: bool):
    with pytest.raises(ValueError, match=f"^checkpoint a.ckpt .*{message}"):
        argument(name, value, for_parser=for_parser)


def own_parameters(learner: type) -> dict[str, inspect.Parameter]:
    """Return the parameters of a learner, and of its base class where it hands on ``**kwargs``."""
    found = dict(inspect.signature(learner).parameters)
    rest = [name for name, parameter in found.items() if parameter.kind is parameter.VAR_KEYWORD]
    for name in rest:
        del found[name]
    return found | own_parameters(learner.__bases__[0]) if rest else found


@pytest.mark.parametrize("for_parser", [False, True])
@pytest.mark.parametrize("learner", sorted(shipped_learners(), key=lambda found: found.__name__))
def test_no_learner_takes_a_foreign_class(learner: type, for_parser: bool):
    """Every argument of every learner has a type that says so; its default is taken as it is."""
    values = SavedValues(NamedClasses("a.ckpt"), "give {argument}", for_parser)
    hints = argument_hints(learner)
    for name, parameter in own_parameters(learner).items():
        texts = [] if hints[name] is str else ["os.system"]  # what takes any text makes no class of it
        for value in (SPEC, [SPEC], {"a": SPEC}, *texts):
            with pytest.raises(ValueError, match=r"^checkpoint a\.ckpt "):
                values.argument(value, hints[name], name)
        taken = values.argument(parameter.default, hints[name], name)
        assert (tuple(taken) if isinstance(taken, list) else taken) == parameter.default


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("either", "relu", "expected no text where the argument may take classes"),
        ("anything", "a: b", "expected no text where the argument may take classes"),
        ("unknown", ["text"], r"for unknown\[0\], expected no text where"),
        ("encoder", {"init_args": {}}, "expected a class_path"),
        ("weights", {"class.path": 1.0}, "expected keys without dots"),
    ],
)
def test_what_only_a_parser_would_take_for_more_than_data(name: str, value: Any, message: str):
    with pytest.raises(ValueError, match=message):
        argument(name, value, for_parser=True)
    argument(name, value)


def test_the_entries_of_lightning_are_not_arguments():
    content = {"lit_rl": {"class_path": "lit_rl.PPO"}, "hyper_parameters": {"clip": 0.1}}
    entries = {
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
        "_class_path": "lit_rl.algos.ppo.PPO",
    }
    assert saved_hyper_parameters(content, "a.ckpt") == {"clip": 0.1}
    content["hyper_parameters"] |= entries
    assert saved_hyper_parameters(content, "a.ckpt") == {"clip": 0.1}
    for name, message in (
        ("_instantiator", "as what makes its learner"),
        ("_class_path", "two learners"),
    ):
        other = content | {"hyper_parameters": entries | {name: "os.system"}}
        with pytest.raises(
            ValueError, match=rf"^checkpoint a\.ckpt names .*{message}.*; do not use this file$"
        ):
            saved_hyper_parameters(other, "a.ckpt")
