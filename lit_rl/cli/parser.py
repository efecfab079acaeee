"""The argument parser: no abbreviations, and errors of one line that name the nearest key."""

from __future__ import annotations

import argparse
import difflib
import inspect
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any, NoReturn

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

import lit_rl
from lit_rl.arguments import shown
from lit_rl.cli import renamed
from lit_rl.cli.errors import CommandError
from lit_rl.cli.signatures import argument_ranges

_log = logging.getLogger("lit_rl")

_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_NO_SUBCLASS = re.compile(
    r"Not a valid subclass of (\w+)\.?(?: Got value: (.+?))?(?= Subclass types| Not a valid|$)"
)
_FRAME = ("Does not validate against any", "Subtypes:", "Errors:", "Given value", "Expected a path but")
"""Lines in which jsonargparse explains a union of types; what is left names the mistake."""

# some defaults of Lightning's callbacks (`interval` of Timer), which could otherwise not be saved as YAML
yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


class Parser(LightningArgumentParser):
    """``LightningArgumentParser`` that raises ``CommandError`` where its parent prints the usage."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["allow_abbrev"] = False  # otherwise --trainer.max_epoch is silently taken for max_epochs
        super().__init__(*args, **kwargs)

    def add_class_arguments(
        self, class_type: type, nested_key: str | None = None, **kwargs: Any
    ) -> list[str]:
        """Add the arguments of a class; their help says which values are expected, where that is declared."""
        added = super().add_class_arguments(class_type, nested_key, **kwargs)
        ranges = argument_ranges(class_type)
        for action in self._actions:
            expected = ranges.get(action.dest.rpartition(".")[2]) if action.dest in added else None
            if expected:
                action.help = f"{action.help or ''} Expected: {expected}.".strip()
        return added

    def parse_string(self, content: str, *args: Any, **kwargs: Any) -> Namespace:
        """Read a configuration, whose keys may have the names of an earlier version."""
        content, notes = renamed.rename_keys(content, renamed.RENAMED)
        for note in notes:
            _log.info(note)
        return super().parse_string(content, *args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise one line instead of printing the usage."""
        if not self.exit_on_error:  # parsers that jsonargparse makes for itself
            super().error(message, ex)
        raise CommandError(self.explain(message)) from ex

    def explain(self, message: str) -> str:
        """Put a message of jsonargparse on one line: the key, what is wrong, and the nearest right key."""
        text = strip_frame(message)
        if match := re.search(r"unrecognized arguments: (\S+)", text):
            return self._explain_unknown(match.group(1).partition("=")[0])
        if match := re.search(r"does not accept option '([^']+)'", text):
            return self._explain_unknown(match.group(1))
        if match := re.search(r"following arguments are required: (.+)", text):
            within = ".".join(_KEY.findall(text))  # an argument of a class has no dots of its own
            keys = [key.partition(".")[2] or f"{within}.{key}" for key in match.group(1).split(", ")]
            missing = ", ".join(f"--{key}" for key in keys)
            hint = (
                "give it, or a configuration (--config NAME, such as ppo_cartpole; lit-rl --help lists them)"
            )
            return f"missing {missing}: {hint}"
        key = ".".join(_KEY.findall(text)) or "command line"
        text = _KEY.sub("", text)
        if match := re.search(r"given class_path '([^']+)': Option '([^']+)' is not accepted", text):
            class_path, name = match.groups()
            near = _nearest(name.partition(".")[0], _parameters(class_path))
            return f"{key}.{name}: {class_path.rpartition('.')[2]} has no argument {name!r}{near}"
        if match := re.search(r"Expected a dot import path string: (\S+)", text):
            known = sorted(set(_known_classes(message)))
            near = _nearest(match.group(1), known)
            names = ", ".join(known)
            return f"{key}: unknown class {match.group(1)!r}{near}; known: {names}; others as module.Class"
        if match := re.search(r"argument (\S+): expected one argument", text):
            return f"{match.group(1)}: expected a value, got none"
        if match := _NO_SUBCLASS.search(text):
            base, got = match.groups()
            return f"{key}: expected the class_path of a {base}, with its init_args" + f"; got {got}" * bool(
                got
            )
        text = re.sub(r"Problem with given class_path '[^']+': ", "", text)
        return f"{key}: {_explain_type(text, message)}"

    def _explain_unknown(self, name: str) -> str:
        if not name.startswith("-") and "." not in name and name not in self._keys():
            near = _nearest(name, {key.partition(".")[0] for key in self._keys()})
            return f"unexpected {name!r}{near}"
        dashes = "--" if name.startswith("-") else ""
        key = name.lstrip("-")
        root, _, rest = key.partition(".")
        roots = {known.partition(".")[0] for known in self._keys()}
        if root not in roots and rest:
            near = _nearest(root, roots, dashes)
            return f"unknown key {name!r}{near}"
        return f"unknown key {name!r}{_nearest(key, self._keys(), dashes)}"

    def _keys(self) -> set[str]:
        """Collect all keys of the command that is being parsed."""
        subparsers = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        parsers: list[argparse.ArgumentParser] = [self]
        for action in subparsers:
            chosen = [name for name in getattr(self, "args", []) if name in action.choices]
            parsers += [action.choices[name] for name in chosen[:1]]
        options = (
            option for parser in parsers for action in parser._actions for option in action.option_strings
        )
        return {option.removeprefix("--") for option in options if option.startswith("--")}


def strip_frame(message: str) -> str:
    """Put a message of jsonargparse on one line, without the lines that explain unions of types."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    kept = [line for line in lines if not line.startswith((*_FRAME, "Expected a <class 'NoneType'>"))]
    return " ".join(dict.fromkeys(kept))


def _explain_type(text: str, message: str) -> str:
    """Say ``expected float, got 'abc'`` in whatever way jsonargparse says so."""
    expected = [
        _type_name(name)
        for name in re.findall(r"Expected an? (.+?)(?=\.? Got value|\s+Expected an? |$)", text)
    ]
    wanted = " or ".join(dict.fromkeys(name.partition(", but got ")[0] for name in expected))
    got = re.search(r"but got (.+?)(?=\.? Got value|$)|Got value: (.+)$", text)
    value = next(filter(None, got.groups()), None) if got else None
    if value is None and (given := re.search(r"Given value: (.+)$", message)):
        value = None if given.group(1).startswith("{'class_path'") else given.group(1)  # all of a class
    if expected:
        return f"expected {wanted}" + (f", got {shown(value)}" if value is not None else "")
    return text


def _type_name(text: str) -> str:
    text = re.sub(r"<class '([^']+)'>", r"\1", text.strip())
    if text in ("collections.abc.Mapping", "dict"):
        return "keys with values"
    if match := re.fullmatch(r"typing\.Literal\[(.+)\]", text):
        return "one of " + match.group(1)
    return text


def _nearest(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _parameters(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return list(inspect.signature(found).parameters) if callable(found) else []


def _known_classes(message: str) -> Iterator[str]:
    """Name the classes of lit_rl that fit the type in a message, whose text may come from a file.

    Nothing is imported because a message names it: the parser has imported the types of its arguments.
    """
    for path in re.findall(r"(?:<class '|list\[)([\w.]+)", message):
        module, _, name = path.rpartition(".")
        base = getattr(sys.modules.get(module), name, None)
        if isinstance(base, type):
            yield from (found.__name__ for found in _subclasses(base) if _is_for_users(found))


def _is_for_users(found: type) -> bool:
    """Say whether to name a class: none that is private, of learners and data modules what lit_rl exports."""
    if found.__name__.startswith("_"):
        return False
    has_parts = found.__module__.startswith(("lit_rl.algos.", "lit_rl.data."))
    return found.__name__ in lit_rl.__all__ if has_parts else found.__module__.startswith("lit_rl.")


def _subclasses(base: type) -> set[type]:
    direct = set(base.__subclasses__())
    return direct.union(*map(_subclasses, direct))
