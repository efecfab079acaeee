"""How much one must read to follow an algorithm: ``python tests/reading_cost.py`` prints it for PPO.

Files of lit_rl are counted that the learner's file reaches over three hops of imports, lazy imports included,
imports for type checkers not. They come in three groups: the mathematics; ``RLModule`` with what only it
brings (Lightning's side: logging, evaluation, threads, ranks, flat parameters); and the ground floor, on
which every file of lit_rl stands.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
HOPS = 3
BASE = "lit_rl.algos.module"
GROUND = (
    "types", "metrics", "checks", "arguments", "nested", "trend", "files", "loss_log", "processes",
)  # fmt: skip
"""The two lowest floors of the import contract in ``pyproject.toml``."""


def file_of(module: str) -> Path | None:
    """The file of a module of lit_rl; a package is its ``__init__``."""
    path = ROOT / module.replace(".", "/")
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported(module: str, with_types: bool = False) -> Iterator[str]:
    """Modules of lit_rl that ``module`` imports at run time, and those for type checkers if asked."""
    path = file_of(module)
    if path is None:
        return
    tree = ast.parse(path.read_text())
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if not with_types and isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [member if file_of(member) else node.module for member in members]
        yield from {name for name in names if name.partition(".")[0] == "lit_rl"}


def reached(module: str, hops: int = HOPS, without: str = "") -> dict[str, int]:
    """Modules within so many hops of ``module``, with their distance; none is reached through ``without``."""
    distance = {module: 0}
    frontier = [module]
    for hop in range(1, hops + 1):
        frontier = sorted(
            {name for source in frontier if source != without for name in imported(source)}
            - distance.keys()
            - {"lit_rl"}
        )
        distance |= dict.fromkeys(frontier, hop)
    return distance


def is_ground(module: str) -> bool:
    """Whether a module stands on the ground floor."""
    return module.split(".")[1] in GROUND


def groups(module: str) -> dict[str, list[str]]:
    """Modules to read for ``module``, by group."""
    everything, without_base = reached(module), reached(module, without=BASE)
    machinery = {BASE} | (everything.keys() - without_base.keys())
    return {
        "mathematics": [m for m in everything if m not in machinery and not is_ground(m)],
        "RLModule and what only it brings": [m for m in everything if m in machinery and not is_ground(m)],
        "ground floor": [m for m in everything if is_ground(m)],
    }


def lines(module: str) -> int:
    """Lines of a module's file."""
    path = file_of(module)
    return len(path.read_text().splitlines()) if path else 0


def describe(module: str) -> str:
    """The list of files by group, and the sums."""
    distance, out, total = reached(module), [], [0, 0]
    for name, members in groups(module).items():
        number, length = len(members), sum(map(lines, members))
        total = [total[0] + number, total[1] + length]
        out.append(f"{name}: {number} files, {length} lines")
        out += [f"  {distance[m]} {lines(m):5} {m}" for m in sorted(members, key=lambda m: (distance[m], m))]
    return "\n".join([*out, f"everything: {total[0]} files, {total[1]} lines"])


if __name__ == "__main__":
    learner = sys.argv[1] if len(sys.argv) > 1 else "lit_rl.algos.ppo.ppo"
    sys.stdout.write(describe(learner) + "\n")
