from __future__ import annotations

from functools import partial

import numpy as np
import torch

from lit_rl import ReplayDataModule, RolloutDataModule
from lit_rl.checks import is_plain
from lit_rl.data.made_with import Difference, describe, differences, of_checkpoint
from lit_rl.envs.alice_bob import AliceAndBob
from tests.toys import Episodes57, Mixed


def made_with(**arguments) -> dict:
    return RolloutDataModule(**({"env": "CartPole-v1"} | arguments)).made_with


def changes(now: dict, before: dict) -> list[str]:
    return [
        f"{name}: {new} for {old}" for name, new, old in differences(made_with(**now), made_with(**before))
    ]


def test_equal_arguments_do_not_differ():
    assert changes({"num_envs": 4}, {"num_envs": 4}) == []
    assert changes({"env_kwargs": {}, "wrappers": []}, {}) == []
    assert changes({"record": ["a", "b"]}, {"record": ["a", "b"]}) == []


def test_each_part_that_differs_is_named():
    now = {
        "env": {"class_path": "my.Env", "init_args": {"size": 3, "wind": {"mean": 1.0, "std": 2.0}}},
        "wrappers": [{"class_path": "my.Wrapper", "init_args": {"limit": 10}}],
        "env_kwargs": {"gravity": 5.0},
        "num_envs": 4,
        "record": ["a"],
    }
    before = {
        "env": {"class_path": "my.Env", "init_args": {"size": 3, "wind": {"mean": 1.0, "std": 3.0}}},
        "wrappers": [{"class_path": "my.Wrapper", "init_args": {"limit": 20}}, {"class_path": "my.Other"}],
        "record": ["a", "b"],
    }
    only_now = {"added_later": 3}
    old = {**before, "num_envs": 8, "env_kwargs": None}
    found = differences({"init_args": now | only_now}, {"init_args": old})
    assert found == [
        Difference("env.init_args.wind.std", 2.0, 3.0),
        Difference("wrappers.0.init_args.limit", 10, 20),
        Difference("env_kwargs.gravity", 5.0, None),
        Difference("num_envs", 4, 8),
        Difference("record", ["a"], ["a", "b"]),
        Difference("wrappers.1.class_path", None, "my.Other"),
    ]
    assert [change.name for change in found if change.is_of_environment] == [
        "env.init_args.wind.std",
        "wrappers.0.init_args.limit",
        "env_kwargs.gravity",
        "wrappers.1.class_path",
    ]


def test_ways_to_name_one_environment_are_equal():
    path = "tests.toys.Mixed"
    ways = [
        {"class_path": path, "init_args": {"action": "box"}},
        {"class_path": path, "action": "box"},  # so jsonargparse delivers --data.env.init_args.action
        partial(Mixed, action="box"),
    ]
    described = [describe(RolloutDataModule, {"env": way}) for way in ways]
    assert differences(described[0], described[1]) == differences(described[0], described[2]) == []
    alone = [
        describe(RolloutDataModule, {"env": way}) for way in (Mixed, {"class_path": path}, partial(Mixed))
    ]
    assert differences(alone[0], alone[1]) == differences(alone[0], alone[2]) == []
    assert differences(alone[0], described[0]) == [Difference("env.init_args.action", None, "box")]


def test_any_argument_is_described_in_plain_types():
    class Thing:
        pass

    given = {
        "self": Thing(),
        "env": partial(Mixed, mask=True),
        "env_kwargs": {"a": np.float64(0.5), "b": np.arange(3), "c": Thing(), "d": Thing, "e": (1, None)},
        "wrappers": [Episodes57, lambda env: env],
        "num_envs": np.int64(3),
    }
    described = describe(RolloutDataModule, given)
    assert is_plain(described)
    assert described["class_path"] == "lit_rl.data.rollout.RolloutDataModule"
    arguments = described["init_args"]
    assert "self" not in arguments
    assert arguments["num_envs"] == 3
    assert arguments["env_kwargs"]["b"] == [0, 1, 2]
    assert arguments["env_kwargs"]["c"].endswith("Thing")
    assert arguments["wrappers"][0] == {"class_path": "tests.toys.Episodes57", "init_args": {}}


def test_a_data_module_knows_all_its_arguments_and_its_state_carries_them():
    data = ReplayDataModule(AliceAndBob, num_envs=2, n_step=3, check=False)
    assert data.made_with["init_args"]["n_step"] == 3
    assert data.made_with["init_args"]["batch_size"] == 256  # a default
    content = {"state_dict": {"weight": torch.zeros(1)}, "epoch": 3, "ReplayDataModule": data.state_dict()}
    assert of_checkpoint(content) == data.made_with
    del content["ReplayDataModule"]["made_with"]
    assert of_checkpoint(content) is None


def test_what_is_no_description_has_no_arguments():
    """It comes from a file, and may be anything."""
    assert differences(made_with(), {}) == []
    assert differences(made_with(), {"init_args": ["num_envs"]}) == []
