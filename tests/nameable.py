"""The classes that a configuration can name, and for each of their arguments values that do not fit."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import gymnasium
import pettingzoo
from torch import nn

import lit_rl.callbacks
import lit_rl.encoders
import lit_rl.envs
from lit_rl.arguments import declared, fits
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from tests import cases

CANDIDATES = (
    float("nan"), float("inf"), -1, -1.5, 0, 10**30, True, None, "no such text", [], ["x"], [-1], {},
    {"x": -1},
)  # fmt: skip
"""Values of which at least one does not fit any argument that takes something particular."""
GIVEN = {"env": "CartPole-v1", "num_envs": 1, "total_env_steps": 1, "groups": [(1, 1)], "env_fn": "a.B"}
"""Values of arguments that have no default; others are None."""


def classes() -> list[type]:
    """Learners, data modules, callbacks, encoders, environments and what holds the settings of these."""
    callbacks = {getattr(lit_rl.callbacks, name) for name in lit_rl.callbacks.__all__}
    encoders = set(filter(_is_encoder, cases.defined_in(lit_rl.encoders)))
    environments = set(filter(_is_env, cases.defined_in(lit_rl.envs)))
    found = cases.shipped_learners() | cases.shipped_data_modules() | callbacks | encoders
    found |= environments | {ParallelVectorEnv}
    return sorted(found, key=lambda each: each.__name__)


def by_name(name: str) -> Any:
    """Return the class of this name."""
    return next(found for found in classes() if found.__name__ == name)


def bad_values(owner: type) -> Iterator[tuple[str, Any]]:
    """Yield names of arguments, each with values that do not fit."""
    for name, hint in declared(owner).items():
        for value in CANDIDATES:
            if not fits(value, hint):
                yield name, value


def required(owner: type) -> dict[str, Any]:
    """Return values of the arguments that have no default."""
    return {name: GIVEN.get(name) for name in _asked(owner)}


def _asked(owner: type) -> set[str]:
    parameters = inspect.signature(owner).parameters.values()
    any_number = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {each.name for each in parameters if each.default is each.empty and each.kind not in any_number}


def _is_encoder(found: type) -> bool:
    return issubclass(found, nn.Module) and list(inspect.signature(found).parameters)[:1] == ["spec"]


def _is_env(found: type) -> bool:
    """Tell whether a class is an environment, or settings that all have defaults."""
    if found.__name__.startswith("_") or issubclass(found, BaseException):
        return False
    if is_dataclass(found):
        return all(each.default is not MISSING for each in fields(found))
    is_single = issubclass(found, gymnasium.Env | pettingzoo.ParallelEnv)
    return _asked(found) <= {"num_envs"} and (is_single or "num_envs" in _asked(found))
