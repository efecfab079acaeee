"""``lit-rl help``: what a configuration can name, and what each of its arguments means."""

from __future__ import annotations

import difflib
import sys
from itertools import pairwise
from typing import Any, get_args

from lit_rl.arguments import alternatives, expectation
from lit_rl.cli import catalog
from lit_rl.cli.errors import CommandError
from lit_rl.cli.other_names import OTHER_NAMES
from lit_rl.cli.sources import Argument, Source, is_unknown


def show(names: list[str]) -> None:
    """Write the list of classes, or what ``names`` mean.

    Raises:
        CommandError: A name is unknown; the message gives the nearest ones.
    """
    kinds = catalog.kinds()
    known = {name: source for found in kinds.values() for name, source in found.items()}
    for name in names:
        if name not in known:
            raise CommandError(_unknown(name, list(known)))
    texts = [explain(known[name]) for name in names] or [_overview(kinds)]
    sys.stdout.write("\n".join(texts))


def asked(argv: list[str]) -> list[str]:
    """Find the class that a command line asks about: ``fit --model.help PPO``, ``fit --help PPO``.

    Classes of a user's own are left to the parser, which imports them.
    """
    known = {name for found in catalog.kinds().values() for name in found}
    words = [word for token in argv for word in token.split("=", 1)]
    for option, value in pairwise(words):
        name = value.rpartition(".")[2]
        if option in ("-h", "--help") and not value.startswith("-"):
            return [name]
        if option.startswith("--") and option.endswith(".help") and name in known:
            return [name]
    return []


def explain(source: Source) -> str:
    """Write what a class is, and of each argument in one line default, values, meaning and other names."""
    arguments = [argument for argument in source.arguments() if not _is_handed_in(argument)]
    lines = [f"{source.node.name} ({source.module}.{source.node.name})", source.sentence, ""]
    lines += [_line(argument, source.node.name) for argument in arguments]
    return "\n".join(lines if arguments else [*lines, "It takes no arguments."]) + "\n"


def _line(argument: Argument, owner: str) -> str:
    default = "must be given" if argument.default is None else f"default {argument.default}"
    said = f": {argument.text}" if argument.text else ""
    elsewhere = OTHER_NAMES.get(owner, {}).get(argument.name)
    names = f" [{elsewhere}]" if elsewhere else ""
    return f"  {argument.name} ({default}; {values(argument)}){said}{names}"


def values(argument: Argument) -> str:
    """Say in words which values an argument takes."""
    said = expectation(argument.name, argument.hint)
    if said:
        return said
    parts = (_part(argument.name, each) for each in _union(argument.hint))
    return ", or ".join(dict.fromkeys(parts))


def _union(hint: Any) -> list[Any]:
    return list(alternatives(hint)) if get_args(hint) else [hint]


def _part(name: str, hint: Any) -> str:
    if is_unknown(hint):
        return f"an object of {hint.__name__}"
    return expectation(name, hint) or "anything"


def _is_handed_in(argument: Argument) -> bool:
    """Tell whether lit_rl itself gives an argument: the description of the environment."""
    return any(is_unknown(each) and each.__name__ == "EnvSpec" for each in alternatives(argument.hint))


def _overview(kinds: dict[str, dict[str, Source]]) -> str:
    lines = ["A configuration can name these; lit-rl help NAME explains each argument.", ""]
    for kind, found in kinds.items():
        width = max(map(len, found))
        lines += [f"{kind.capitalize()}:"]
        lines += [f"  {name:<{width}}  {source.sentence}" for name, source in sorted(found.items())]
        lines += [""]
    return "\n".join([*lines, "lit-rl --help lists commands and configurations."]) + "\n"


def _unknown(name: str, known: list[str]) -> str:
    by_lower = {each.lower(): each for each in known}
    near = [by_lower[each] for each in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    hint = f"did you mean {' or '.join(near)}?" if near else "nothing has a similar name;"
    return f"there is no {name!r} that a configuration can name; {hint} lit-rl help lists all"
