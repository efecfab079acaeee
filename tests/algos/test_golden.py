"""Numbers of a known good state. A change that is meant to be learning-neutral leaves them alone.

A change that is not writes them again with ``python -m tests.golden_runs write`` and says why in its commit.
Here they are compared up to rounding, which differs between processors; ``python -m tests.golden_runs check``
compares them to the bit.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.golden_runs import CHECKPOINTS, GOLDEN, RUNS, losses, of_checkpoint


def assert_same(now: Any, kept: Any, where: str) -> None:
    if isinstance(kept, dict):
        assert set(kept) <= set(now), where
        for key, value in kept.items():
            assert_same(now[key], value, f"{where}, {key}")
    else:
        assert now == pytest.approx(kept, rel=1e-3, abs=1e-5), where


@pytest.mark.parametrize("name", RUNS)
def test_every_learner_learns_as_before(name: str):
    assert_same(losses(name), json.loads((GOLDEN / f"{name}.json").read_text()), name)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")
@pytest.mark.parametrize("name", RUNS)
def test_a_checkpoint_of_another_version_evaluates_and_trains_on_equally(name: str):
    """The checkpoints were written before the files of the learners moved."""
    kept = json.loads((CHECKPOINTS / f"{name}.json").read_text())
    assert_same(of_checkpoint(name, CHECKPOINTS / f"{name}.ckpt"), kept, name)
