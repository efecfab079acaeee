"""The shape of the house: what one must read, who imports whom, how long a file is."""

from __future__ import annotations

from pathlib import Path

from tests.reading_cost import ROOT, groups, imported, lines

ROOMS = {"lit_rl": ROOT / "lit_rl", "lit_rl.callbacks": ROOT / "callbacks"}
"""Where the files of each top package lie; ``lit_rl/callbacks`` is a link, which is not followed."""


def modules() -> dict[str, Path]:
    """Every module of lit_rl and its file; a package stands for its ``__init__``."""
    found = {}
    for package, folder in ROOMS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            if parts[0] not in ("callbacks", "configs") or package != "lit_rl":
                found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


def test_the_mathematics_of_ppo_is_eleven_files_and_2110_lines_at_most():
    mathematics = groups("lit_rl.algos.ppo.ppo")["mathematics"]
    assert len(mathematics) <= 11
    assert sum(map(lines, mathematics)) <= 2110


def test_the_page_of_the_design_says_how_much_that_is():
    told = (ROOT / "docs" / "design.md").read_text()
    mathematics, base, _ = groups("lit_rl.algos.ppo.ppo").values()
    assert f"{len(mathematics)} files of mathematics with {sum(map(lines, mathematics)):,} lines" in told
    assert f"{len(base)} files with {sum(map(lines, base)):,} lines for `RLModule`" in told


def test_no_two_files_import_each_other():
    imports = {module: set(imported(module, with_types=True)) for module in modules()}
    assert "lit_rl.algos.module" in imports["lit_rl.algos.ppo.ppo"]
    circles = {
        tuple(sorted((one, other)))
        for one, others in imports.items()
        for other in others
        if one in imports.get(other, ()) and one != other
    }
    assert circles == set()


def test_a_file_is_one_concept():
    long = {module: path for module, path in modules().items() if len(path.read_text().splitlines()) > 420}
    assert long == {}
