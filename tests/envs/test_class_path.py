from __future__ import annotations

import gymnasium
import pytest

from lit_rl.envs.class_path import factory
from tests.toys import Episodes57, Mixed


def test_a_class_with_arguments():
    make = factory({"class_path": "tests.toys.Mixed", "init_args": {"action": "box"}}, "env")
    assert callable(make)
    made = make(mask=True)
    assert type(made).__name__ == "Mixed"
    assert isinstance(made.action_space, gymnasium.spaces.Box)


def test_a_class_without_arguments_is_itself():
    assert factory({"class_path": "gymnasium.wrappers.TimeLimit"}, "wrappers") is gymnasium.wrappers.TimeLimit


def test_ids_and_callables_stay():
    assert factory("CartPole-v1", "env") == "CartPole-v1"
    assert factory(Mixed, "env") is Mixed


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"class_path": "nowhere.Env"}, "env.class_path 'nowhere.Env' cannot be imported .*No module named"),
        ({"class_path": "tests.toys.Nothing"}, "cannot be imported .*has no attribute 'Nothing'"),
        ({"class_path": "Env"}, "env.class_path 'Env' cannot be imported .*; write package.module.Name"),
        ({"class_path": "tests.toys.__doc__"}, "must be a class or function, got 'Tiny environments"),
        ({"init_args": {}}, "env must have class_path and perhaps init_args, got {'init_args': {}}"),
    ],
)
def test_what_names_nothing_is_refused(source: dict, message: str):
    with pytest.raises(ValueError, match=message):
        factory(source, "env")


def test_an_entry_point_names_what_makes_the_environment():
    assert factory("tests.toys:Episodes57", "env") is Episodes57
    for an_id in ("CartPole-v1", "tests.toys:Episodes57-v0", "no_such_package:Thing", "tests.toys:nothing"):
        assert factory(an_id, "env") == an_id
