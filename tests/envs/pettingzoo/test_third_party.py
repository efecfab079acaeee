"""Environments of PettingZoo that need further packages: ``pip install 'pettingzoo[sisl,butterfly]'``.

``python -m pytest -m slow tests/envs/pettingzoo/test_third_party.py`` runs them; those whose packages are not
installed are skipped.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import pytest

from lit_rl import PPO, RolloutDataModule
from tests.toys import make_trainer

ENVIRONMENTS: dict[str, dict[str, Any]] = {
    "sisl.multiwalker_v9": {"max_cycles": 20},
    "sisl.pursuit_v5": {"max_cycles": 10},
    "sisl.waterworld_v4": {"max_cycles": 10},
    "butterfly.cooperative_pong_v6": {"max_cycles": 10},
    "butterfly.pistonball_v6": {"max_cycles": 10, "n_pistons": 4},
    "butterfly.knights_archers_zombies_v11": {"max_cycles": 10},
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the packages
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_ippo_trains_on_it(name: str) -> None:
    try:
        module = import_module(f"pettingzoo.{name}")
    except ImportError as error:
        pytest.skip(f"pettingzoo.{name} cannot be imported: {error}")
    data = RolloutDataModule(
        module.parallel_env, num_envs=1, env_kwargs=ENVIRONMENTS[name], rollout_steps=48,
        rollouts_per_epoch=1, eval_episodes=1,
    )  # fmt: skip
    learner = PPO(hidden=[8], batch_size=48, update_epochs=1)
    make_trainer().fit(learner, datamodule=data)
    assert learner.env_steps == 48
    assert learner.spec is not None
    assert learner.spec.state == 0
    assert np.isfinite(learner.progress_metrics["loss/value"])
