"""Configuration files that come with lit_rl, found by name."""

from __future__ import annotations

import difflib
from pathlib import Path

import lit_rl
from lit_rl.cli.errors import CommandError


def directory() -> Path:
    """Return the folder of shipped configurations: in the package when installed, beside it in a checkout."""
    package = Path(lit_rl.__file__).parent
    installed = package / "configs"
    return installed if any(installed.glob("*.yaml")) else package.parent / "configs"


def names() -> dict[str, str]:
    """List the shipped configurations, as in ``trainer/cpu``, with the description from their first lines."""
    root = directory()
    found = {}
    for path in sorted([*root.glob("*.yaml"), *root.glob("*/*.yaml")]):
        with path.open(encoding="utf-8") as lines:
            first = lines.readline()
        found[path.relative_to(root).with_suffix("").as_posix()] = first.removeprefix("#").strip()
    return found


def find(given: str) -> Path:
    """Find the file that ``--config given`` means: a path, or the name of a shipped configuration.

    Raises:
        CommandError: There is neither.
    """
    path = Path(given)
    if path.is_file():
        return path
    known = names()
    name = given.removesuffix(".yaml")
    if name in known:
        return directory() / f"{name}.yaml"
    if path.is_dir() and (path / "config.yaml").is_file():
        return path / "config.yaml"
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise CommandError(f"--config {given}: no such file; {hint}shipped configurations: {', '.join(known)}")


def resolve(argv: list[str]) -> tuple[list[str], list[Path]]:
    """Replace each ``--config NAME`` of a command line by ``--config PATH``.

    Returns:
        The new command line, and the configuration files in their order.
    """
    resolved, files = [], []
    expects_value = False
    for token in argv:
        option, equals, value = token.partition("=")
        if expects_value:
            files.append(find(token))
            resolved.append(str(files[-1]))
            expects_value = False
        elif option in ("--config", "-c") and equals:
            files.append(find(value))
            resolved += ["--config", str(files[-1])]
        else:
            expects_value = token in ("--config", "-c")
            resolved.append(token)
    return resolved, files
