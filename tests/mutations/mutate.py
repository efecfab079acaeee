"""One change of a configuration, as people make them by mistake: a value, a key, a line."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import yaml

Path = tuple[Any, ...]
VALUES = (
    -1, 0, 1, -0.5, 1.5, 1e-30, 1e30, 10**13, float("nan"), float("inf"), None, True, False, "abc", "", "-1",
    "3", [], [1], [-1, 2], ["a"], {}, {"a": 1}, {"class_path": "nowhere.Nothing"},
)  # fmt: skip


class Mutation(NamedTuple):
    """A mutated file, what was done to it, and the words of which a message about it must hold one."""

    text: str
    what: str
    names: tuple[str, ...]


def mutate(config: dict[str, Any], random_: random.Random) -> Mutation:
    """Change one thing of a configuration."""
    kinds: list[tuple[Callable[[dict[str, Any], random.Random], Mutation], int]] = [
        (_other_value, 12), (_scaled_value, 3), (_misspelt_key, 3), (_missing_key, 2), (_moved_key, 2),
        (_swapped_values, 2), (_wrong_class, 1), (_twice, 2), (_broken_line, 2),
    ]  # fmt: skip
    chosen = random_.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
    return chosen(copy.deepcopy(config), random_)


def entries(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every key and of every entry of a list."""
    if isinstance(tree, dict | list):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield (*path, key)
            yield from entries(value, (*path, key))


def words(path: Path) -> tuple[str, ...]:
    """Name the last key of a path, and what the place is called where no key is meant."""
    keys = [key.rstrip("+") for key in path if isinstance(key, str)]
    last = keys[-1]
    return (last, keys[-2]) if last in ("init_args", "class_path") else (last,)


def below(tree: Any) -> tuple[str, ...]:
    """Name all keys within a value: where they are gone, a message may speak of any of them."""
    return tuple(path[-1] for path in entries(tree) if isinstance(path[-1], str))


def _at(tree: Any, path: Path) -> Any:
    for key in path:
        tree = tree[key]
    return tree


def _text(config: Any) -> str:
    return "# mutated\n" + yaml.safe_dump(config, sort_keys=False)


def _keys(config: dict[str, Any]) -> list[Path]:
    return [path for path in entries(config) if isinstance(path[-1], str)]


def _other_value(config: dict[str, Any], random_: random.Random) -> Mutation:
    path = random_.choice(list(entries(config)))
    value, inner = random_.choice(VALUES), below(_at(config, path))
    _at(config, path[:-1])[path[-1]] = value
    return Mutation(_text(config), f"{path} = {value!r}", (*words(path), *inner))


def _scaled_value(config: dict[str, Any], random_: random.Random) -> Mutation:
    numbers = [path for path in entries(config) if type(_at(config, path)) in (int, float)]
    if not numbers:
        return _other_value(config, random_)
    path = random_.choice(numbers)
    value = _at(config, path) * random_.choice((-1, 0, -10, 1e-6, 1e12))
    _at(config, path[:-1])[path[-1]] = value
    return Mutation(_text(config), f"{path} = {value!r}", words(path))


def _misspelt_key(config: dict[str, Any], random_: random.Random) -> Mutation:
    path = random_.choice(_keys(config))
    key = path[-1]
    at = random_.randrange(len(key))
    wrong = random_.choice(
        (key[:at] + key[at + 1 :], key[:at] + key[at] * 2 + key[at + 1 :], key + "s", key.upper())
    )
    parent = _at(config, path[:-1])
    parent[wrong or "x"] = parent.pop(key)
    return Mutation(_text(config), f"{path} misspelt {wrong!r}", (wrong or "x", key))


def _missing_key(config: dict[str, Any], random_: random.Random) -> Mutation:
    path = random_.choice(_keys(config))
    inner = below(_at(config, path[:-1]).pop(path[-1]))
    return Mutation(_text(config), f"{path} missing", (*words(path), *inner))


def _moved_key(config: dict[str, Any], random_: random.Random) -> Mutation:
    deep = [path for path in _keys(config) if len(path) > 1 and isinstance(_at(config, path[:-2]), dict)]
    path = random_.choice(deep)
    value = _at(config, path[:-1]).pop(path[-1])
    _at(config, path[:-2])[path[-1]] = value
    return Mutation(_text(config), f"{path} moved out", (*words(path), str(path[-2])))


def _swapped_values(config: dict[str, Any], random_: random.Random) -> Mutation:
    leaves = [path for path in entries(config) if not isinstance(_at(config, path), dict | list)]
    if len(leaves) < 2:
        return _other_value(config, random_)
    one, other = random_.sample(leaves, 2)
    first, second = _at(config, one), _at(config, other)
    _at(config, one[:-1])[one[-1]], _at(config, other[:-1])[other[-1]] = second, first
    return Mutation(_text(config), f"{one} and {other} swapped", (*words(one), *words(other)))


def _wrong_class(config: dict[str, Any], random_: random.Random) -> Mutation:
    named = [path for path in _keys(config) if path[-1] == "class_path"]
    if not named:
        return _other_value(config, random_)
    path = random_.choice(named)
    old = _at(config, path)
    new = random_.choice(
        (old[:-1], old.lower(), f"lit_rl.{old}x", "os.getcwd", "PPO", "SAC", "torch.nn.Linear")
    )
    _at(config, path[:-1])["class_path"] = new
    return Mutation(_text(config), f"{path} = {new!r}", (new, new.rpartition(".")[2], *words(path)))


def _twice(config: dict[str, Any], random_: random.Random) -> Mutation:
    lines = _text(config).splitlines()
    keyed = [number for number, line in enumerate(lines) if re.match(r" *\w+: \S", line)]
    number = random_.choice(keyed) if keyed else 1
    key = lines[number].partition(":")[0]
    lines.insert(number + 1, f"{key}: 1")
    return Mutation("\n".join(lines) + "\n", f"{key.strip()} twice", (key.strip(), "is no valid YAML: line "))


def _broken_line(config: dict[str, Any], random_: random.Random) -> Mutation:
    lines = _text(config).splitlines()
    number = random_.randrange(1, len(lines))
    line = lines[number]
    lines[number] = random_.choice(
        (line.replace(": ", " "), "\t" + line, f"   {line}", line + " [", line + ": x", "%" + line)
    )
    key = line.strip().lstrip("- ").partition(":")[0]
    above = lines[number - 1].strip().lstrip("- ").partition(":")[0]
    names = ("is no valid YAML: line ", key, above or key)
    return Mutation("\n".join(lines) + "\n", f"line {number + 1} {lines[number]!r}", names)
