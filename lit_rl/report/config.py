"""``config.yaml`` of a run, of which nothing is believed: its size, its depth, its numbers."""

from __future__ import annotations

import math
from typing import Any

import yaml

MOST_VALUES = 20_000
"""A configuration has so many values at most, those counted again to which an alias leads."""

DEEPEST = 40
"""Values lie within so many lists and mappings at most; an alias within itself would never end."""

_LARGEST = 10**300
"""A whole number beyond it is no float, and is read as infinite."""


def parse_config(text: str) -> dict[str, Any]:
    """Read the mapping in ``text``.

    Raises:
        ValueError: It is no YAML or no mapping, or its aliases or its depth make it endless.
    """
    try:
        content = yaml.load(text, _Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError("no YAML") from error
    if not isinstance(content, dict):
        raise ValueError("no mapping")
    return _Plain().of(content, 0)


class _Loader(yaml.SafeLoader):
    """Goes no deeper than ``DEEPEST``, and knows no merge keys (``<<``), which can take all memory."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Read the next value; those within it are read inside."""
        self.depth += 1
        if self.depth > DEEPEST:  # before the rest is scanned, which takes time that grows with the depth
            raise yaml.YAMLError("too deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing; the key itself is then refused."""


class _Plain:
    """Copies values without aliases, as long as they are not too many."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, value: Any, depth: int) -> Any:
        self.count += 1
        if self.count > MOST_VALUES or depth > DEEPEST:
            raise ValueError("too many values, or too deep")
        if isinstance(value, dict):
            return {self.of(key, depth + 1): self.of(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self.of(item, depth + 1) for item in value)
        if isinstance(value, int) and abs(value) > _LARGEST:
            return math.inf
        return value
