"""Numbers of a known good state. A change that is meant to be learning-neutral leaves them alone.

A change that is not writes them again with ``python tests/algos/test_golden.py`` and says why in its commit.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "ppo_cartpole.json"


def losses_of_ppo() -> dict[str, list[float]]:
    """Losses of 20 rollouts of PPO on CartPole at seed 1."""
    from lit_rl import PPO, RolloutDataModule
    from tests.toys import fit

    torch.manual_seed(1)
    module = PPO(hidden=(16, 16), batch_size=64, update_epochs=2, learning_rate=1e-3)
    data = RolloutDataModule("CartPole-v1", 4, 32, rollouts_per_epoch=20, seed=1, check=False)
    logger = fit(module, data)
    return {name: logger.column(name) for name in ("loss/policy", "loss/value", "policy/entropy")}


def test_ppo_on_cartpole_learns_as_before():
    golden, now = json.loads(GOLDEN.read_text()), losses_of_ppo()
    for name, values in golden.items():
        assert len(values) == 20
        assert now[name] == pytest.approx(values, rel=1e-4, abs=1e-6), name


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(losses_of_ppo(), indent=1) + "\n")
