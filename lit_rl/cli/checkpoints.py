"""Which checkpoint is meant, what is in it, and whose hyper-parameters win."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from lit_rl.algos.argument_types import argument_hints
from lit_rl.algos.hyper_parameters import SavedValues, saved_hyper_parameters
from lit_rl.algos.loading import is_checkpoint
from lit_rl.algos.names import Named, NamedClasses, import_name, is_same, shown
from lit_rl.checks import is_plain
from lit_rl.cli.errors import CommandError
from lit_rl.data.made_with import differences, of_checkpoint
from lit_rl.envs.class_path import factory


def run_of(path: Path) -> Path | None:
    """Find the run directory that a checkpoint or ``config.yaml`` lies in; None when it lies in no run."""
    run = path.parent.parent if path.parent.name in ("checkpoints", "models") else path.parent
    return run if (run / "config.yaml").is_file() and (run / "checkpoints").is_dir() else None


def is_of_run(configs: list[Path], run: Path) -> bool:
    """Tell whether one of ``configs`` lies in ``run``: it is then one that this run was started with."""
    return any(found is not None and found.resolve() == run.resolve() for found in map(run_of, configs))


def resolve(given: str, configs: list[Path], option: str = "--ckpt_path") -> Path:
    """Find the file that ``--ckpt_path given`` means.

    Args:
        given: ``last``, ``best``, or a path.
        configs: Configuration files of the command line; ``last`` and ``best`` are those of the run of the
            newest one that lies in a run.
        option: Option that it was given to, for messages.

    Raises:
        CommandError: There is no such file.
    """
    if given in ("last", "best"):
        runs = [run for run in map(run_of, configs) if run is not None]
        if not runs:
            raise CommandError(
                f"{option} {given} expects --config RUN/config.yaml of a run with checkpoints, "
                f"got {', '.join(map(str, configs)) or 'no --config'}"
            )
        path = runs[-1] / "checkpoints" / f"{given}.ckpt"
    else:
        path = Path(given)
    if not path.is_file():
        endings = (".pt", ".pth") if path.parent.name == "models" else (".ckpt",)
        files = path.parent.iterdir() if path.parent.is_dir() else ()
        there = sorted(file.name for file in files if file.suffix in endings)
        hint = f"{path.parent} holds {', '.join(there)}" if there else f"{path.parent} holds no checkpoint"
        raise CommandError(f"checkpoint {path} does not exist; {hint}")
    real = path.resolve()  # `latest` may point elsewhere by the time something is written beside it
    return real.relative_to(Path.cwd()) if real.is_relative_to(Path.cwd()) else real


def read(path: Path) -> dict[str, Any]:
    """Read a checkpoint; its tensors stay on disk until they are used.

    Raises:
        CommandError: The file is truncated, or no checkpoint of lit_rl.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise CommandError(
            f"checkpoint {path} cannot be read: it is truncated, damaged or no checkpoint; take another one",
            1,
        ) from error
    if not is_checkpoint(content):
        raise CommandError(f"checkpoint {path} was not written by lit_rl: it has no entry 'lit_rl'", 1)
    return content


def env_steps(content: dict[str, Any]) -> int:
    """Return the env steps for which the policy of a checkpoint was trained."""
    return content["state_dict"]["_extra_state"]["env_steps"]


def explicit_keys(argv: list[str]) -> set[str]:
    """Find the arguments that a command line sets: ``{"clip"}`` for ``--model.init_args.clip 0.1``."""
    found = (re.match(r"--model\.(?:init_args\.)?([^.=+]+)", token) for token in argv)
    return {match.group(1) for match in found if match}


def merge(
    config: dict[str, Any], content: dict[str, Any], explicit: set[str], path: Path
) -> tuple[dict[str, Any], list[str]]:
    """Decide the arguments of the model: command line, then checkpoint, then configuration and defaults.

    The configuration is code: what it names is imported. The checkpoint is data: of classes it may name those
    that the configuration names, and those of lit_rl.

    Args:
        config: ``class_path`` and ``init_args`` as configured, in plain types.
        content: Content of the checkpoint.
        explicit: Names of arguments the command line sets.
        path: The checkpoint, for messages.

    Returns:
        The arguments that hold, and one line for each that differs.

    Raises:
        CommandError: The checkpoint holds another class of module, or names a class that it may not name.
    """
    trained = content["lit_rl"].get("class_path", config["class_path"])
    learner = factory({"class_path": config["class_path"]}, "model")
    if not is_same(trained, import_name(learner)):
        raise CommandError(
            f"checkpoint {path} holds a {shown(trained)}, "
            f"but the configuration asks for {config['class_path']}"
        )
    merged: dict[str, Any] = dict(config.get("init_args", {}))
    remedy = "give --config of its run, or --model.{argument}"
    values = SavedValues(NamedClasses(path, tuple(_classes(merged))), remedy, for_parser=True)
    try:
        saved = saved_hyper_parameters(content, path)
        return _merge(merged, saved, explicit, values, argument_hints(learner))
    except ValueError as error:
        raise CommandError(str(error)) from error


def _merge(
    merged: dict[str, Any],
    saved: dict[str, Any],
    explicit: set[str],
    values: SavedValues,
    hints: dict[str, Any],
) -> tuple[dict[str, Any], list[str]]:
    notes = []
    for name, value in saved.items():
        if name not in merged or (is_plain(value) and merged[name] == value):
            continue
        if name in explicit:
            notes.append(
                f"model.{name} = {merged[name]} from the command line replaces {shown(value, 300)} of the "
                "checkpoint"
            )
        else:
            checked = values.argument(value, hints.get(name, Any), name)
            notes.append(
                f"model.{name} = {shown(value, 300)} from the checkpoint replaces {merged[name]} of the "
                "configuration"
            )
            merged[name] = checked
    return merged, notes


def _classes(configured: Any) -> Iterator[Named]:
    """Find every class that a part of the configuration names; the parser has imported them."""
    if isinstance(configured, Mapping):
        if isinstance(configured.get("class_path"), str):
            yield factory({"class_path": configured["class_path"]}, "class_path")
        for value in configured.values():
            yield from _classes(value)
    elif isinstance(configured, list):
        for value in configured:
            yield from _classes(value)


def trained_with(content: dict[str, Any], path: Path) -> dict[str, Any] | None:
    """Tell with which data a checkpoint was trained: ``class_path`` and ``init_args`` of its data module.

    Checkpoints of earlier versions do not say; then the configuration of the run that they lie in does. None
    where nothing says it.
    """
    made_with = of_checkpoint(content)
    run = run_of(path)
    if made_with is not None or run is None:
        return made_with
    saved = read_config(run / "config.yaml").get("data")
    return saved if isinstance(saved, dict) else None


def read_config(path: Path) -> dict[str, Any]:
    """Read the configuration that a run keeps; it is empty where that is torn."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def compare_data(config: dict[str, Any], trained: dict[str, Any]) -> tuple[list[str], bool]:
    """Compare the data that is configured with the data that a checkpoint was trained with.

    Args:
        config: ``class_path`` and ``init_args`` as configured, in plain types.
        trained: What the checkpoint was trained with, likewise.

    Returns:
        One line for each argument that differs, and whether the episodes of the checkpoint cannot go on: the
        environment or the data module is another one.
    """
    changes = differences(config, trained)
    lines = [f"data.{name} = {now} replaces {before} of the checkpoint" for name, now, before in changes]
    classes = [str(made.get("class_path")).rpartition(".")[2] for made in (config, trained)]
    is_other = classes[0] != classes[1]
    if is_other:
        lines.insert(0, f"data = {classes[0]} replaces {classes[1]} of the checkpoint")
    return lines, is_other or any(change.is_of_environment for change in changes)


def describe_mismatch(error: RuntimeError, path: Path) -> str:
    """Put PyTorch's report that weights do not fit on one line."""
    first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
    run = run_of(path)
    config = f"--config {run / 'config.yaml'}" if run else "the configuration it was trained with"
    return f"checkpoint {path} does not fit the networks configured ({first.rstrip('.')}); give {config}"
