"""Names of classes in checkpoints: which class each means, and which it may not mean."""

from __future__ import annotations

import sys

import pytest
from torch import nn

from lit_rl import PPO, SAC
from lit_rl.algos.module import RLModule
from lit_rl.algos.names import NamedClasses, import_name, is_same, public_name, shown
from lit_rl.encoders.perceptron import PerceptronEncoder
from lit_rl.nets import Flatten


class Own(PPO):
    pass


class Encoder(nn.Module):
    pass


def make_encoder() -> nn.Module:
    return Encoder()


def test_learners_have_public_names():
    assert public_name(PPO) == "lit_rl.PPO"
    assert public_name(Own) == import_name(Own) == f"{__name__}.Own"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("lit_rl.PPO", "lit_rl.algos.ppo.PPO", True),
        ("lit_rl.PPO", "lit_rl.SAC", False),
        ("__main__.Own", "my_package.learners.Own", True),
        ("my_package.PPO", "lit_rl.PPO", False),
        ("lit_rl.Own", "my_package.Own", False),
        ("my_package.Own", None, False),
        (3, 3, False),
    ],
)
def test_a_class_may_have_moved_but_not_into_lit_rl(one: object, other: object, same: bool):
    assert is_same(one, other) is same
    assert is_same(other, one) is same


@pytest.mark.parametrize(
    ("name", "base", "given", "expected"),
    [
        ("lit_rl.PPO", RLModule, (), PPO),
        ("lit_rl.algos.ppo.PPO", RLModule, (), PPO),
        ("lit_rl.encoders.perceptron.PerceptronEncoder", nn.Module, (), PerceptronEncoder),
        ("lit_rl.nets.Flatten", nn.Module, (), Flatten),
        (f"{__name__}.Own", RLModule, (Own,), Own),
        (f"{__name__}.Own", PPO, (Encoder, Own), Own),
        ("__main__.Encoder", nn.Module, (Own, Encoder), Encoder),
        (f"{__name__}.make_encoder", nn.Module, (make_encoder,), make_encoder),
    ],
)
def test_classes_of_lit_rl_and_those_given_are_found(name, base, given, expected):
    assert NamedClasses("a.ckpt", given).find(name, base, "encoder", "") is expected


@pytest.mark.parametrize(
    ("name", "base"),
    [
        (f"{__name__}.Own", RLModule),
        (f"{__name__}.Encoder", nn.Module),
        ("lit_rl.PPO", nn.Module),
        ("lit_rl.load_policy", RLModule),
        ("lit_rl.encoders.image.nn", nn.Module),
        ("lit_rl.encoders.image.linear", nn.Module),
        ("lit_rl.algos.module.RLModule", RLModule),
        ("lit_rl.encoders.perceptron.PerceptronEncoder", object),
        ("antigravity.Encoder", nn.Module),
        ("", nn.Module),
        (["lit_rl.PPO"], RLModule),
    ],
)
def test_nothing_else_is_found_or_imported(name: object, base: type):
    with pytest.raises(
        ValueError,
        match=r"^checkpoint a.ckpt names .* as encoder; a checkpoint is data, .*: if it is yours, do$",
    ):
        NamedClasses("a.ckpt").find(name, base, "encoder", "do")
    assert "antigravity" not in sys.modules


def test_a_class_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"names lit_rl\.SAC as its learner, which is not a subclass of PPO"):
        NamedClasses("a.ckpt", (PPO,)).find("lit_rl.SAC", PPO, "its learner", "")
    with pytest.raises(
        ValueError, match=rf"names {__name__}\.Own as encoder, which is not a subclass of SAC"
    ):
        NamedClasses("a.ckpt", (Own,)).find(f"{__name__}.Own", SAC, "encoder", "")


def test_the_very_name_counts_more_than_a_moved_one():
    twin = type("Own", (PPO,), {"__module__": "elsewhere"})
    assert NamedClasses("a.ckpt", (twin, Own)).find(f"{__name__}.Own", PPO, "its learner", "") is Own
    assert NamedClasses("a.ckpt", (Own, twin)).find("elsewhere.Own", PPO, "its learner", "") is twin


def test_values_are_shown_on_one_short_line():
    assert shown("os.system") == "os.system"
    assert shown("a\nb\x1b[2J") == r"'a\nb\x1b[2J'"
    assert shown(["x" * 500]) == "['" + "x" * 75 + "..."
