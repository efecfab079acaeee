"""Damaged run directories are read or refused in one line; ``tests/fuzzed_runs.py`` damages them."""

import shutil
from pathlib import Path

import pytest

from tests.fuzzed_runs import KINDS, damage, fuzz, make_run

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO, trained for two epochs."""
    return make_run("plain", tmp_path_factory.mktemp("fuzzed"))


def test_a_few_damaged_runs_are_read_or_refused(plain: Path):
    counts, faults = fuzz([plain], range(1, 16))
    assert faults == []
    assert counts["read"] > counts["refused"]
    assert counts.total() == 3 * 15


def test_equal_seeds_damage_equally(plain: Path, tmp_path: Path):
    for seed in (1, 5, 6):
        said = []
        for name in "ab":
            copy = tmp_path / f"{name}{seed}"
            shutil.copytree(plain, copy)
            said.append((damage(seed, copy), (copy / "config.yaml").read_bytes(), len(list(copy.iterdir()))))
        assert said[0] == said[1]


@pytest.mark.slow
def test_a_thousand_damaged_runs_of_every_kind_are_read_or_refused(tmp_path: Path):
    counts, faults = fuzz([make_run(kind, tmp_path) for kind in KINDS], range(1000))
    assert faults == []
    assert counts.total() == 3000
