"""Configurations as layers, read without the parser of Lightning, which loads torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from lit_rl.cli import shipped
from lit_rl.cli.errors import CommandError
from lit_rl.cli.yaml_file import read_yaml


def read_layers(names: Sequence[str]) -> dict[str, Any]:
    """Read configurations and lay them over each other; later ones win, and ``key+`` adds to a list.

    Args:
        names: Names or paths of configurations.

    Raises:
        CommandError: A configuration cannot be read.
    """
    merged: dict[str, Any] = {}
    for name in names:
        _merge(merged, read_yaml(shipped.find(name)))
    return merged


def _merge(base: dict[str, Any], over: Mapping[str, Any]) -> None:
    for key, value in over.items():
        if key.endswith("+") and isinstance(value, list):
            before = base.get(key[:-1]) or []
            base[key[:-1]] = [*(before if isinstance(before, list) else [before]), *value]
        elif isinstance(value, Mapping):
            below = base.get(key)
            base[key] = dict(below) if isinstance(below, dict) else {}
            _merge(base[key], value)
        else:
            base[key] = value


def pairs(tokens: Sequence[str], command: str) -> list[tuple[str, Any]]:
    """Split ``--KEY VALUE`` and ``--KEY=VALUE`` into keys and values, which are read as YAML.

    Args:
        tokens: Part of a command line.
        command: Name of the command, for messages.

    Raises:
        CommandError: A token is no key, has no value, or its value is no YAML.
    """
    found, rest = [], list(tokens)
    while rest:
        token = rest.pop(0)
        name, equals, text = token.partition("=")
        if not name.startswith("--") or (not equals and not rest):
            raise CommandError(f"{token}: expected --data.KEY VALUE; see lit-rl {command} --help")
        text = text if equals else rest.pop(0)
        try:
            found.append((name[2:], yaml.safe_load(text)))
        except yaml.YAMLError as error:
            raise CommandError(f"{name} {text}: {str(error).splitlines()[0]}") from error
    return found


def callback_arguments(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the ``init_args`` of the last callback of class ``name``; None where there is none.

    Args:
        config: Merged configuration from :func:`read_layers`.
        name: Name of the class, without its module.
    """
    callbacks = (config.get("trainer") or {}).get("callbacks") or []
    for callback in reversed(callbacks if isinstance(callbacks, list) else [callbacks]):
        path = callback.get("class_path") if isinstance(callback, Mapping) else callback
        if str(path).rpartition(".")[2] == name:
            return dict(callback.get("init_args") or {}) if isinstance(callback, Mapping) else {}
    return None
