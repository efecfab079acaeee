"""README and docs/ say what the code says: logged names, configurations, files, commands, classes."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

import lit_rl
import lit_rl.callbacks
from lit_rl.cli import main, shipped
from lit_rl.metrics import METRICS, markdown_table

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
GENERATED = ("changelog.md", "contributing.md", "notebooks")
PAGES = [
    README,
    *(
        path
        for path in sorted((ROOT / "docs").rglob("*.md"))
        if path.relative_to(ROOT / "docs").parts[0] not in GENERATED
    ),
]
TEXT = "\n".join(path.read_text() for path in PAGES)


def test_table_of_logged_names_is_the_one_of_metrics():
    assert markdown_table() in TEXT, "run: python -m lit_rl.metrics, and paste its table into docs/metrics.md"


def test_every_logged_name_has_a_definition():
    assert all(metric.definition for metric in METRICS.values())


CONFIGS = sorted(name for name in shipped.names() if "/" not in name or name.startswith("systems/"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_listed(name: str):
    assert f"| `{name}` |" in TEXT


def test_every_file_they_name_exists():
    for name in re.findall(r"`((?:lit_rl|algos|notebooks|callbacks)/[\w./]+\.(?:py|ipynb))`", TEXT):
        assert (ROOT / name).exists() or (ROOT / "lit_rl" / name).exists(), name


def test_the_front_page_is_short():
    assert len(README.read_text().splitlines()) <= 150


def test_every_page_is_linked():
    """Every link of a page leads to a file, and the table of contents has every page."""
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]+)?\)", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
    contents = (ROOT / "docs" / "index.md").read_text().splitlines()
    names = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in PAGES[1:]}
    assert names - set(contents) == {"index"}


def test_the_reference_has_every_class_and_function():
    public = {f"lit_rl.{name}" for name in lit_rl.__all__}
    public |= {f"lit_rl.callbacks.{name}" for name in lit_rl.callbacks.__all__}
    assert public - set(re.findall(r"auto(?:class|function):: ([\w.]+)", TEXT)) == set()


FITS = [
    line.partition("#")[0].split()[1:]
    for line in TEXT.splitlines()
    if line.startswith("lit-rl fit ") and not re.search(r"(runs|tf-logs)/", line)
]


@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
@pytest.mark.parametrize("argv", FITS, ids=" ".join)
def test_every_training_it_shows_is_understood(argv: list[str], capsys: pytest.CaptureFixture[str]):
    """Configurations, layers and options of each command line exist."""
    with contextlib.suppress(SystemExit):
        main([*argv, "--print_config"])
    printed = capsys.readouterr()
    assert "class_path: lit_rl." in printed.out, printed.err
