from __future__ import annotations

import dataclasses

import pytest

from lit_rl import ReplayDataModule, RolloutDataModule
from lit_rl.data.arguments import EnvironmentArguments
from tests.worker_toys import Uneven


@pytest.mark.parametrize("name", ["num_envs", "eval_episodes"])
def test_arguments_out_of_range(name: str):
    message = rf"{name} must be at least 1, got 0; set data\.init_args\.{name}"
    with pytest.raises(ValueError, match=message):
        EnvironmentArguments("CartPole-v1", **{name: 0})
    for kind in (RolloutDataModule, ReplayDataModule):
        with pytest.raises(ValueError, match=message):
            kind("CartPole-v1", **{name: 0})


def test_a_wrong_number_of_workers():
    for num_workers in (0, 9):
        expected = f"between 1 and num_envs=8, got {num_workers}; set data.init_args.num_workers"
        with pytest.raises(ValueError, match=expected):
            RolloutDataModule(Uneven, vectorization="async", num_workers=num_workers)


def test_they_cannot_be_changed():
    arguments = EnvironmentArguments("CartPole-v1", 2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        arguments.num_envs = 3
