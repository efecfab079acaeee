"""Values that may be anything, such as ``env_kwargs``, as configurations and command lines give them.

jsonargparse reads every text among them once more as YAML, so that a quoted ``"3"`` becomes a number, and an
override of a nested key (``--data.env_kwargs.cfg.a 3``) drops the other keys beside it and leaves its value a
text. Here text stays what it is in a file, and an override is read once and changes its own key only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, get_args, get_origin

import yaml
from jsonargparse import _typehints
from jsonargparse._util import NestedArg, parse_value_or_config

_QUOTES = ("'", '"')
_ADAPT = "adapt_typehints"
"""Function of jsonargparse that fits a value to a type; it calls itself for what lies within."""


@contextmanager
def kept() -> Iterator[None]:
    """Keep text as it is, and merge nested overrides, while jsonargparse parses."""
    original = getattr(_typehints, _ADAPT)

    def adapt(value: Any, typehint: Any, *args: Any, **kwargs: Any) -> Any:
        if typehint in (Any, object) and isinstance(value, str):
            return value
        if isinstance(value, NestedArg) and _holds_anything(typehint):
            value = overridden(kwargs.get("prev_val"), value.key, read(value.val))
        return original(value, typehint, *args, **kwargs)

    setattr(_typehints, _ADAPT, adapt)
    try:
        yield
    finally:
        setattr(_typehints, _ADAPT, original)


def read(text: Any) -> Any:
    """Read the value of an option: ``3`` is a number and ``'"3"'`` a text."""
    if isinstance(text, str) and text[:1] in _QUOTES and text[-1:] == text[:1]:
        return yaml.safe_load(text)
    return parse_value_or_config(text, enable_path=False, simple_types=True)[0] if text else text


def overridden(before: Any, key: str, value: Any) -> dict[str, Any]:
    """Return what ``before`` holds, with another value at a key whose dots lead into nested mappings."""
    first, _, rest = key.partition(".")
    changed = dict(before) if isinstance(before, Mapping) else {}
    changed[first] = overridden(changed.get(first), rest, value) if rest else value
    return changed


def _holds_anything(typehint: Any) -> bool:
    return get_origin(typehint) in (dict, Mapping) and get_args(typehint)[1] is Any
