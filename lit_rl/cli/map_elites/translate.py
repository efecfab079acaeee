"""Turns a mode and its flags into the command line of ``fit``."""

from __future__ import annotations

import copy
import json
import math
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import yaml

from lit_rl import terminal
from lit_rl.cli import shipped
from lit_rl.cli.errors import CommandError
from lit_rl.cli.map_elites.flags import BACKENDS, BY_NAME, ENCODERS, MODES, QUICK, convert, parse
from lit_rl.cli.map_elites.questions import ask, ask_mode

PROCESSES = {"vectorization": "native", "collector": "workers"}
"""Arguments of the data module that let worker processes act, and step its arms."""
SIZES = tuple(QUICK)
_VARIABLES = ("TRAINING_STEPS_PER_INDIVIDUAL", "INDIVIDUALS_PER_GENERATION")
_SECTIONS = ("trainer", "model.init_args", "data.init_args", "budget")
_EPISODE_STEPS = 200  # of PlanarArm-v0 where env_kwargs.num_steps says nothing
Config = dict[str, Any]


def command_of(argv: list[str]) -> list[str]:
    """Turn the arguments of ``lit-rl map-elites`` into a command line of ``lit-rl``, and show it.

    Raises:
        CommandError: A flag or its value is wrong, or nobody is there to be asked.
    """
    given, rest = parse(argv)
    if {"test_quick", "demo"} & given.keys():
        given = {**QUICK, **given}
    if "demo" in given and "no_render" not in given:
        given["enable_rendering"] = True
    mode = _mode(given)
    source, path = _source(given, mode)
    if "test" in given:
        command = ["test", "--config", source, "--ckpt_path", "last", *rest]
    else:
        with path.open(encoding="utf-8") as file:
            before = yaml.safe_load(file)
        if mode == "advanced" and "resume" not in given:
            given = ask(given, defaults_of(before))
        after = configured(before, given, mode)
        going_on = ["--ckpt_path", "last"] if "resume" in given else []
        command = ["fit", "--config", source, *going_on, *overrides(before, after), *rest]
    terminal.write(sys.stdout, f"lit-rl {shlex.join(command)}\n")
    return command


def _mode(given: dict[str, Any]) -> str:
    """Find the mode, by whatever names it.

    Raises:
        CommandError: Two different ones are named, or none and there is no terminal to ask on.
    """
    named = [given[name] for name in ("given_mode", "mode") if name in given]
    named += ["shared-ppo"] if "train_shared" in given else []
    if len(set(named)) > 1:
        raise CommandError(f"lit-rl map-elites expects one mode, got {' and '.join(named)}")
    if named:
        return named[0]
    return "basic" if {"test_quick", "demo"} & given.keys() else ask_mode()


def _source(given: dict[str, Any], mode: str) -> tuple[str, Path]:
    """Return the configuration to begin with, as ``--config`` takes it and as a path.

    Raises:
        CommandError: There is no run to go on with.
    """
    shipped_path = shipped.find(MODES[mode])
    asked = given.get("resume", given.get("test"))
    if asked is None:
        return MODES[mode], shipped_path
    with shipped_path.open(encoding="utf-8") as file:
        root = given.get("save_dir", yaml.safe_load(file)["trainer"]["default_root_dir"])
    run = Path(asked) if asked else Path(root) / shipped_path.stem / "latest"
    path = run / "config.yaml"
    if not path.is_file():
        option = "--resume" if "resume" in given else "--test"
        raise CommandError(f"lit-rl map-elites {option}: there is no run in {run}; give the directory of one")
    return str(path), path


def configured(before: Config, given: dict[str, Any], mode: str = "custom") -> Config:
    """Return a configuration as flags change it.

    Args:
        before: What it was.
        given: Flags by their names in Python.
        mode: ``multiprocess`` also reads two environment variables, over which flags win.

    Raises:
        CommandError: A flag needs something that the configuration does not have.
    """
    config = copy.deepcopy(before)
    given = dict(given)
    if mode == "multiprocess":
        given = {**_from_environment(), **given}
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    trainer = config["trainer"]
    for name, key in (("lr", "learning_rate"), ("min_batch_size", "batch_size")):
        if name in given:
            model[key] = given[name]
    if "hidden_dim" in given:
        model["hidden"] = [given["hidden_dim"]] * 2
    for name, key in (("training", "training"), ("timeout", "step_timeout_s")):
        if name in given:
            data[key] = given[name]
    if "max_workers" in given:
        data |= {**PROCESSES, "num_workers": given["max_workers"]}
    is_genetic = _switch(given, "use_genetic_fitness", "no_genetic_fitness")
    if is_genetic is not None:
        data["genetic_fitness"] = is_genetic
    if "env_type" in given:
        data["env_kwargs"]["backend"] = BACKENDS[given["env_type"]]
    if "encoder" in given:
        _choose_encoder(model, data, given["encoder"])
    if "save_dir" in given:
        trainer["default_root_dir"] = given["save_dir"]
    if "silent_mode" in given:
        trainer["enable_progress_bar"] = False
    search = arguments_of(config, "MapElites")
    if "seed" in given:
        config["seed_everything"] = search["seed"] = given["seed"]
    _record_losses(trainer, given)
    _resize_buffer(data, given)
    is_rendered = _switch(given, "enable_rendering", "no_render")
    if is_rendered is not None:
        search["render"] = is_rendered
    if any(name in given for name in SIZES):
        _resize(config, {**sizes(config), **{name: given[name] for name in SIZES if name in given}})
    return config


def _switch(given: dict[str, Any], on: str, off: str) -> bool | None:
    """Return what was chosen of a pair of flags; None where neither was."""
    return False if off in given else given.get(on)


def _from_environment() -> dict[str, int]:
    found = {}
    for variable in _VARIABLES:
        flag = BY_NAME[variable.lower()]
        if variable in os.environ:
            found[flag.name] = convert(flag, os.environ[variable], variable)
    return found


def arguments_of(config: Config, callback: str) -> Config:
    """Return the arguments of a callback, to be read or changed.

    Raises:
        CommandError: There is no such callback.
    """
    for entry in config["trainer"]["callbacks"]:
        if entry["class_path"].rpartition(".")[2] == callback:
            return entry.setdefault("init_args", {})
    raise CommandError(f"lit-rl map-elites: the configuration has no callback {callback}")


def _record_losses(trainer: Config, given: dict[str, Any]) -> None:
    """Set up the loss recorder, or take it out."""
    names = {"experiment_name": "experiment_name", "loss_log_dir": "log_dir"}
    names["loss_update_interval"] = "update_interval"
    chosen = {key: given[name] for name, key in names.items() if name in given}
    if "disable_loss_logging" in given:
        if chosen:
            option = BY_NAME[next(name for name in names if name in given)].option
            raise CommandError(f"lit-rl map-elites: {option} has no effect with --disable-loss-logging")
        trainer["callbacks"] = [
            entry
            for entry in trainer["callbacks"]
            if entry["class_path"].rpartition(".")[2] != "NetworkLossLogger"
        ]
    elif chosen:
        arguments_of({"trainer": trainer}, "NetworkLossLogger").update(chosen)


def _choose_encoder(model: Config, data: Config, name: str) -> None:
    """Read arms joint by joint, or, without an encoder, as one list of numbers that includes the body."""
    path = ENCODERS[name]
    model["encoder"] = {"class_path": path} if path else None
    data["env_kwargs"] |= {"layout": "tokens" if path else "trig", "morph": path is None}


def _resize_buffer(data: Config, given: dict[str, Any]) -> None:
    """Set how many steps each arm makes between two updates, and how many arms there are."""
    if "buffer_size" not in given and "update_interval" not in given:
        return
    steps = given.get("update_interval", data["rollout_steps"])
    size = given.get("buffer_size", data["num_envs"] * data["rollout_steps"])
    if size % steps:
        raise CommandError(
            f"--buffer-size {size} must be a multiple of --update-interval {steps}: every arm makes "
            f"{steps} steps between two updates; {steps * max(1, size // steps)} would be one"
        )
    episode = data["env_kwargs"].get("num_steps", _EPISODE_STEPS)
    data |= {"num_envs": size // steps, "rollout_steps": steps}
    whole = math.lcm(episode, steps) // steps
    data["rollouts_per_bodies"] = whole  # bodies change when episodes end


def sizes(config: Config) -> dict[str, int]:
    """Read the sizes of a search out of a configuration, as the flags name them."""
    search = arguments_of(config, "MapElites")
    per_generation = search["batch_size"]
    initial = search.get("num_initial")
    initial = per_generation if initial is None else initial
    generations = search["generations"] - math.ceil(initial / per_generation)
    individuals = initial + generations * per_generation
    return {
        "num_generations": generations,
        "individuals_per_generation": per_generation,
        "num_initial_random": initial,
        "training_steps_per_individual": round(config["budget"]["total_env_steps"] / individuals),
    }


def _resize(config: Config, size: dict[str, int]) -> None:
    """Set generations and env steps; generations come as evenly as batches allow."""
    initial, per_generation = size["num_initial_random"], size["individuals_per_generation"]
    generations = size["num_generations"] + math.ceil(initial / per_generation)
    individuals = initial + size["num_generations"] * per_generation
    total = individuals * size["training_steps_per_individual"]
    data, model = config["data"]["init_args"], config["model"]["init_args"]
    batches = math.ceil(total / (data["num_envs"] * data["rollout_steps"]))
    arguments_of(config, "MapElites").update(
        generations=generations,
        batch_size=per_generation,
        num_initial=initial,
        every_batches=max(1, batches // generations),
    )
    config["budget"]["total_env_steps"] = total
    if model.get("anneal_env_steps"):
        model["anneal_env_steps"] = total


def defaults_of(config: Config) -> dict[str, Any]:
    """Return what a configuration says where flags say nothing, by the names of the flags."""
    model, data, trainer = config["model"]["init_args"], config["data"]["init_args"], config["trainer"]
    losses, search = arguments_of(config, "NetworkLossLogger"), arguments_of(config, "MapElites")
    encoder = (model.get("encoder") or {}).get("class_path")
    backend = data["env_kwargs"].get("backend", "kernel")
    return {
        **sizes(config),
        "experiment_name": losses.get("experiment_name"),
        "loss_log_dir": losses.get("log_dir"),
        "loss_update_interval": losses.get("update_interval"),
        "disable_loss_logging": False,
        "enable_rendering": search.get("render", False),
        "use_genetic_fitness": data.get("genetic_fitness", False),
        "env_type": next(name for name, value in BACKENDS.items() if value == backend),
        "encoder": next(name for name, path in ENCODERS.items() if path == encoder),
        "training": data.get("training", "co_trained"),
        "save_dir": trainer["default_root_dir"],
        "seed": config["seed_everything"],
        "lr": model["learning_rate"],
        "hidden_dim": model["hidden"][0],
        "max_workers": data.get("num_workers"),
        "buffer_size": data["num_envs"] * data["rollout_steps"],
        "update_interval": data["rollout_steps"],
        "min_batch_size": model["batch_size"],
        "timeout": data.get("step_timeout_s"),
        "silent_mode": trainer.get("enable_progress_bar") is False,
    }


def overrides(before: Config, after: Config) -> list[str]:
    """List what differs as arguments of ``fit``."""
    changed: list[str] = []
    if before.get("seed_everything") != after.get("seed_everything"):
        changed += ["--seed_everything", str(after["seed_everything"])]
    for section in _SECTIONS:
        old, new = before, after
        for part in section.split("."):
            old, new = old[part], new[part]
        for key, value in new.items():
            if key not in old or old[key] != value:
                text = value if isinstance(value, str) else json.dumps(value)
                changed += [f"--{section}.{key}", text]
    return changed
