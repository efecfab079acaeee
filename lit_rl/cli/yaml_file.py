"""A configuration file as its user wrote it: one mapping, in which each key stands once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lit_rl.arguments import shown
from lit_rl.cli.errors import CommandError

SECTIONS = {"trainer", "model", "data", "budget", "checkpoint"}
"""Keys of a configuration that hold keys."""


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a configuration.

    Raises:
        CommandError: The file cannot be read, is no YAML, holds no keys, or holds a key twice, of which YAML
            would silently take the last.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise CommandError(f"{path} is no valid YAML: {_problem(error)}") from error
    for key, first, second in _twice(root):
        raise CommandError(
            f"{path} has the key {key} twice, in lines {first} and {second}: only one of the values would be "
            "taken; leave one out"
        )
    if not isinstance(content, dict):
        raise CommandError(
            f"{path} expected keys such as model, data and budget, got a {type(content).__name__}"
        )
    _check_layout(content, path)
    return content


def _check_layout(content: dict[str, Any], path: Path) -> None:
    """Refuse a section or ``init_args`` without keys, and a ``class_path`` that is no text."""
    for section in SECTIONS & content.keys():
        value = content[section]
        if value is None and section not in ("model", "data"):  # without these a command says what it needs
            raise CommandError(f"{path}: {section} holds nothing, expected keys with values; or leave it out")
        is_short = section in ("model", "data") and isinstance(value, str)  # the name of a class
        if value is not None and not isinstance(value, dict) and not is_short:
            raise CommandError(f"{path}: {section} = {shown(value)}, expected keys with values")
        for name, key, found in _classes(value, section):
            if key == "class_path" and not isinstance(found, str):
                raise CommandError(f"{path}: {name} = {shown(found)}, expected the name of a class")
            if key == "init_args" and not isinstance(found, dict | None):
                raise CommandError(f"{path}: {name} = {shown(found)}, expected keys with values")


def _classes(value: Any, path: str, within: tuple[int, ...] = ()) -> Iterator[tuple[str, str, Any]]:
    """Yield the dotted name, the key and the value of each ``class_path`` and ``init_args``."""
    if id(value) in within or not isinstance(value, dict | list):
        return
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
        if key in ("class_path", "init_args") and (key == "class_path" or "class_path" in value):
            yield f"{path}.{key}", key, entry
        yield from _classes(entry, f"{path}.{key}", (*within, id(value)))


def _problem(error: Exception) -> str:
    """Say on one line what is wrong, and where."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    return " ".join(str(error).split())


def _twice(
    node: yaml.Node | None, path: str = "", within: tuple[int, ...] = ()
) -> Iterator[tuple[str, int, int]]:
    """Yield each key that a mapping holds twice, by its dotted name, with the two lines."""
    if node is None or id(node) in within:  # an alias may lead back to what holds it
        return
    inside = (*within, id(node))
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            yield from _twice(entry, f"{path}{number}.", inside)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and name != "<<":
                yield f"{path}{name}", lines[name], line
            lines[name] = line
            yield from _twice(value, f"{path}{name}.", inside)
