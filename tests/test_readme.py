"""The README says what the code says: its table of logged names, its configs, its floors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lit_rl.metrics import METRICS, markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_table_of_logged_names_is_the_one_of_metrics():
    assert markdown_table() in README, "run: python -m lit_rl.metrics, and paste its table into README.md"


def test_every_logged_name_has_a_definition():
    assert all(metric.definition for metric in METRICS.values())


@pytest.mark.parametrize("config", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_is_listed(config: Path):
    assert f"| `{config.stem}` |" in README


def test_every_file_it_names_exists():
    for name in re.findall(r"`((?:lit_rl|algos|notebooks|callbacks)/[\w./]+\.(?:py|ipynb))`", README):
        assert (ROOT / name).exists() or (ROOT / "lit_rl" / name).exists(), name
