"""The README says what the code says: its table of logged names, its configs, its floors."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from lit_rl.cli import main, shipped
from lit_rl.metrics import METRICS, markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_table_of_logged_names_is_the_one_of_metrics():
    assert markdown_table() in README, "run: python -m lit_rl.metrics, and paste its table into README.md"


def test_every_logged_name_has_a_definition():
    assert all(metric.definition for metric in METRICS.values())


CONFIGS = sorted(name for name in shipped.names() if "/" not in name or name.startswith("systems/"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_listed(name: str):
    assert f"| `{name}` |" in README


def test_every_file_it_names_exists():
    for name in re.findall(r"`((?:lit_rl|algos|notebooks|callbacks)/[\w./]+\.(?:py|ipynb))`", README):
        assert (ROOT / name).exists() or (ROOT / "lit_rl" / name).exists(), name


FITS = [
    line.partition("#")[0].split()[1:]
    for line in README.splitlines()
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
