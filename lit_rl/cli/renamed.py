"""Keys of configurations that have another name by now: files of earlier runs go on working."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TypeAlias

import yaml

from lit_rl.cli.signatures import argument_names

Table: TypeAlias = Mapping[str, Mapping[str, str]]
"""For each section, as in ``data.init_args``, the present name of each key by its former one."""

RENAMED: Table = {"data.init_args": {"replay": "playback"}}


def rename_keys(text: str, table: Table = RENAMED) -> tuple[str, list[str]]:
    """Give keys in the text of a configuration file their present names; all else stays as it is written.

    A key is renamed only where the class that stands beside it accepts the present name and not the former
    one, so that a class of the user's own keeps its arguments, and only where the present name is not given.

    Args:
        text: A configuration in YAML.
        table: Which keys were renamed.

    Returns:
        The text that holds, and one line for each key that was renamed.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return text, []  # whoever parses it says what is wrong
    found: list[tuple[yaml.Node, str]] = []
    notes = []
    for section, names in table.items():
        name, _, child = section.partition(".")
        part = _entries(_entries(root).get(name, (None, None))[1])
        arguments = _entries(part.get(child, (None, None))[1])
        class_path = part["class_path"][1].value if "class_path" in part else ""
        accepted = _arguments_of(str(class_path))
        for old, new in names.items():
            if old in arguments and new not in arguments and new in accepted and old not in accepted:
                found.append((arguments[old][0], new))
                notes.append(f"{section}.{old} of the configuration is called {new} now")
    for key, new in sorted(found, key=lambda entry: -entry[0].start_mark.index):
        text = text[: key.start_mark.index] + new + text[key.end_mark.index :]
    return text, notes


def _entries(node: yaml.Node | None) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """Return the nodes of each key and its value in a mapping; any other node has none."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return {str(key.value): (key, value) for key, value in pairs}


def _arguments_of(class_path: str) -> set[str]:
    """Name the arguments of a class; there are none where there is no such class."""
    module, _, name = class_path.rpartition(".")
    try:
        found = getattr(import_module(module or "lit_rl"), name)
    except (ImportError, AttributeError):
        return set()
    return argument_names(found) if isinstance(found, type) else set()
