from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.collect.random_state import get_rng_state, seeded_apart, set_rng_state


def draw() -> list[Any]:
    return [
        torch.rand(3).tolist(),
        np.random.rand(3).tolist(),  # noqa: NPY002 - the generator of third parties
        np.random.randn(1).tolist(),  # noqa: NPY002
        random.random(),
        random.gauss(0, 1),
    ]


def test_random_generators_round_trip(tmp_path: Path):
    np.random.randn(1)  # noqa: NPY002 - leaves half a pair behind
    torch.save(get_rng_state(), tmp_path / "rng.pt")
    expected = draw()
    assert draw() != expected
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draw() == expected


def test_a_block_draws_from_its_own_seed_and_nobody_else_notices():
    within, after = [], []
    for seed in (3, 3, 2**40):  # numpy takes seeds of 32 bits
        set_rng_state(state := get_rng_state())
        with seeded_apart(seed):
            within.append(draw())
        after.append(draw())
        set_rng_state(state)
    assert within[0] == within[1] != within[2]
    assert after[0] == after[1] == after[2] == draw()


def test_a_block_that_breaks_off_is_not_noticed_either():
    state = get_rng_state()
    expected = draw()
    set_rng_state(state)

    def break_off() -> None:
        with seeded_apart(3):
            draw()
            raise ConnectionError

    with pytest.raises(ConnectionError):
        break_off()
    assert draw() == expected
