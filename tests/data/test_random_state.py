from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lit_rl.data.random_state import get_rng_state, set_rng_state


def test_random_generators_round_trip(tmp_path: Path):
    def draw() -> list[Any]:
        return [
            torch.rand(3).tolist(),
            np.random.rand(3).tolist(),  # noqa: NPY002 - the generator of third parties
            np.random.randn(1).tolist(),  # noqa: NPY002
            random.random(),
            random.gauss(0, 1),
        ]

    np.random.randn(1)  # noqa: NPY002 - leaves half a pair behind
    torch.save(get_rng_state(), tmp_path / "rng.pt")
    expected = draw()
    assert draw() != expected
    set_rng_state(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draw() == expected
