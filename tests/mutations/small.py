"""The shipped configurations in a size in which a batch takes a moment."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

import lit_rl
from lit_rl.arguments import declared

ROOT = Path(__file__).parents[2] / "configs"
DEMONSTRATIONS = Path(__file__).parents[1] / "data" / "pendulum.safetensors"
BASES = {
    "data/remote": "sac_pendulum",
    "presets/hmasd_paper": "hmasd_uav",
    "presets/hmasd_sync": "hmasd_alice_bob",
    "presets/sac_droq": "sac_pendulum",
    "presets/sac_legged": "sac_pendulum",
    "presets/sac_redq": "sac_pendulum",
    "presets/sac_rlpd": "sac_pendulum",
    "presets/sac_serl": "sac_pendulum",
}
"""Experiments of the learner that a layer is made for; others go over ``ppo_cartpole_fast``."""

MODEL = {
    "hidden": [8], "update_epochs": 1, "discriminator_epochs": 1, "predict_epochs": 1, "batch_size": 16,
    "predict_batch_size": 16, "predict_hidden": [8], "gru": 8, "chunk_length": 4, "k": 4, "embedding": 8,
    "minibatches": 1,
}  # fmt: skip
DATA = {
    "num_envs": 4, "rollout_steps": 8, "batch_env_steps": 32, "rollouts_per_epoch": 100, "eval_episodes": 1,
    "warmup_steps": 16, "training_starts": 16, "capacity": 1000, "steps_per_batch": 4,
    "updates_per_step": 0.5, "batch_size": 8, "batches_per_epoch": 100, "num_workers": 2,
    "length_cells": 3, "centroid_cells": 3, "num_goals": 2,
}  # fmt: skip
BATCH = {"mappo_spread": 24, "mappo_uav": 40, "mappo_uav_sparse": 40}
"""Transitions of a minibatch where it must hold all agents of an environment."""
SEARCH = {"generations": 2, "batch_size": 2, "num_initial": 2, "every_batches": 1}
ONLY_WHERE_GIVEN = {
    "gru",
    "batch_env_steps",
    "training_starts",
    "num_workers",
    "num_envs",
    "k",
    "chunk_length",
}
WIRE = ("host", "port", "max_actors", "window", "token", "certificate", "key")
"""Arguments of ``RemoteReplayDataModule`` that ``transport: in_process`` does not take."""


def names() -> list[str]:
    """Name every shipped configuration."""
    return sorted(path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.rglob("*.yaml"))


def is_layer(name: str) -> bool:
    """Tell whether a configuration needs another one below it."""
    return "model" not in read(name) or "class_path" not in read(name)["model"]


def base_of(name: str) -> str | None:
    """Name the experiment that a layer goes over; None for an experiment."""
    return BASES.get(name, "ppo_cartpole_fast") if is_layer(name) else None


def read(name: str) -> dict[str, Any]:
    """Read a shipped configuration."""
    return yaml.safe_load((ROOT / f"{name}.yaml").read_text(encoding="utf-8"))


def small(name: str) -> dict[str, Any]:
    """Return a shipped configuration with few environments, short rollouts and narrow networks."""
    config = copy.deepcopy(read(name))
    for section, values in (("model", MODEL), ("data", DATA)):
        part = config.get(section) or {}
        arguments = part.get("init_args")
        if arguments is None:
            continue
        class_path = part.get("class_path")
        known = declared(getattr(lit_rl, class_path.rpartition(".")[2])) if class_path else {}
        for key, value in values.items():
            is_given = arguments.get(key) is not None
            if is_given or (key in known and key not in ONLY_WHERE_GIVEN):
                arguments[key] = value
        if "num_bodies" in (arguments.get("env_kwargs") or {}):
            arguments["env_kwargs"]["num_bodies"] = 2
    if name == "presets/sac_rlpd":
        config["data"]["init_args"]["demonstrations"] = str(DEMONSTRATIONS)
    if name in BATCH:
        config["model"]["init_args"]["batch_size"] = BATCH[name]
    for entry in (config.get("trainer") or {}).get("callbacks") or []:
        if "generations" in (entry.get("init_args") or {}):
            entry["init_args"].update(SEARCH)
    config.get("trainer", {}).pop("devices", None)
    config.get("trainer", {}).pop("strategy", None)
    if config.get("trainer", {}).get("accelerator") == "gpu":
        config["trainer"]["accelerator"] = "cpu"
    return config


def in_process(config: dict[str, Any]) -> dict[str, Any]:
    """Let remote data come from this process, without a server that waits for actors."""
    data = config.get("data") or {}
    if isinstance(data, dict) and str(data.get("class_path")).endswith("RemoteReplayDataModule"):
        arguments = data.setdefault("init_args", {})
        for key in WIRE:
            arguments.pop(key, None)
        arguments["transport"] = "in_process"
    return config
