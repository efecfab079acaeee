"""One bad value for each argument of each class that a configuration can name."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Iterator
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningDataModule
from torch import nn

from lit_rl.algos.module import RLModule
from tests import nameable
from tests.mutations import small
from tests.mutations.case import Case

SETTINGS_OF = {
    "ArmSpace": ("ppo_arm", "data"), "ArmTask": ("ppo_arm", "data"), "Go2Task": ("go2_sac_quick", "data"),
    "Scenario": ("mappo_uav", "data"),
}  # fmt: skip
"""Configuration whose ``env_kwargs`` are the settings of these."""
LEARNER_OF = {
    "HMASD": "hmasd_alice_bob", "SAC": "sac_pendulum", "TD3": "td3_pendulum", "PPO": "ppo_cartpole",
    "PopulationPPO": "population_ppo_arm", "PredictivePPO": "predictive_ppo_arm",
    "Predictor": "predictor_uav", "RolloutDataModule": "ppo_cartpole", "ReplayDataModule": "sac_pendulum",
    "RemoteReplayDataModule": "sac_pendulum", "MorphologyDataModule": "map_elites/basic",
}  # fmt: skip
COMMAND = {"EnvStepBudget": "budget", "RolloutCheckpoint": "checkpoint"}
"""Callbacks that have a key of their own."""


def cases_of_arguments(seed: int = 0) -> Iterator[Case]:
    """Yield one case for each argument, with one of the values that do not fit it."""
    random_ = random.Random(seed)
    for owner in nameable.classes():
        by_name: dict[str, list[Any]] = {}
        for name, value in nameable.bad_values(owner):
            by_name.setdefault(name, []).append(value)
        for name, values in by_name.items():
            value = random_.choice(values)
            config = configuration(owner, name, value) if name not in ("spec", "self") else None
            if config is not None:
                text = yaml.safe_dump(config, sort_keys=False)
                yield Case(f"{owner.__name__}.{name} = {value!r}", {"mutated.yaml": text}, (name,))


def configuration(owner: type, name: str, value: Any) -> dict[str, Any] | None:
    """Return a configuration that gives one argument of a class; None where YAML gives no such class."""
    given = {name: value}
    path = f"{owner.__module__}.{owner.__name__}"
    if owner.__name__ in SETTINGS_OF:
        experiment, _ = SETTINGS_OF[owner.__name__]
        config = copy.deepcopy(small.small(experiment))
        config["data"]["init_args"].setdefault("env_kwargs", {}).update(given)
    elif issubclass(owner, RLModule | LightningDataModule):
        config = copy.deepcopy(small.small(LEARNER_OF[owner.__name__]))
        section = "model" if issubclass(owner, RLModule) else "data"
        config[section]["class_path"] = owner.__name__
        config[section]["init_args"].update(given)
    elif issubclass(owner, Callback):
        config = small.small("ppo_cartpole_fast")
        if owner.__name__ in COMMAND:
            config.setdefault(COMMAND[owner.__name__], {}).update(given)
        else:
            entry = {"class_path": f"lit_rl.callbacks.{owner.__name__}", "init_args": given}
            config.setdefault("trainer", {})["callbacks"] = [entry]
    elif issubclass(owner, nn.Module):
        config = small.small("predictive_ppo_arm")
        needed = {key: each for key, each in nameable.required(owner).items() if key != "spec"}
        config["model"]["init_args"]["gnn"] = {"class_path": path, "init_args": _lists(needed | given)}
    else:
        config = _with_environment(owner, path, given)
    return config


def _with_environment(owner: type, path: str, given: dict[str, Any]) -> dict[str, Any] | None:
    if "num_envs" in given or inspect.isabstract(owner) or not hasattr(owner, "step"):
        return None  # data modules give the number
    needed = {k: each for k, each in nameable.required(owner).items() if k != "num_envs"}
    config = small.small("ppo_cartpole_fast")
    config["data"]["init_args"]["env"] = {"class_path": path, "init_args": _lists(needed | given)}
    return config


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(each) for key, each in value.items()}
    return [_lists(each) for each in value] if isinstance(value, list | tuple) else value
