from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import LambdaLR

from lit_rl.algos.optimizer_settings import OptimizerSettings, settings_of, take_changes


def sgd(rate: float, momentum: float = 0.9) -> tuple[SGD, LambdaLR]:
    """An optimizer whose learning rate halves at each step of its schedule."""
    optimizer = SGD([nn.Parameter(torch.zeros(2))], rate, momentum)
    return optimizer, LambdaLR(optimizer, lambda step: 0.5**step)


def step(optimizer: SGD, schedule: LambdaLR) -> None:
    optimizer.step()
    schedule.step()


def trainer(optimizer: Any, schedule: Any = None, ckpt_path: str | None = "last.ckpt") -> Any:
    configs = [] if schedule is None else [SimpleNamespace(scheduler=schedule)]
    return SimpleNamespace(ckpt_path=ckpt_path, optimizers=[optimizer], lr_scheduler_configs=configs)


def test_a_schedule_goes_on_from_another_learning_rate():
    first, its_schedule = sgd(0.1)
    before = settings_of([first])
    for _ in range(2):
        step(first, its_schedule)
    assert first.param_groups[0]["lr"] == pytest.approx(0.025)

    optimizer, schedule = sgd(0.4, momentum=0.5)
    settings, fit = OptimizerSettings(), trainer(optimizer, schedule)
    settings.note(fit)
    settings.before = before
    optimizer.load_state_dict(first.state_dict())
    schedule.load_state_dict(its_schedule.state_dict())
    settings.resume(fit)
    (group,) = optimizer.param_groups
    assert group["lr"] == pytest.approx(0.1)  # 0.4 / 4
    assert group["momentum"] == 0.5
    step(optimizer, schedule)
    assert group["lr"] == pytest.approx(0.05)


def test_what_moved_by_itself_stays_where_nothing_was_changed():
    """A learner may anneal the learning rate by its own means, from batch to batch."""
    first = Adam([nn.Parameter(torch.zeros(2))], 0.1)
    before = settings_of([first])
    first.param_groups[0]["lr"] = 0.07
    same, other = (Adam([nn.Parameter(torch.zeros(2))], rate) for rate in (0.1, 0.2))
    for optimizer, expected, lines in (
        (same, 0.07, []),
        (other, 0.14, ["learning rate 0.2 replaces 0.1 of the checkpoint"]),
    ):
        given = settings_of([optimizer])
        optimizer.load_state_dict(first.state_dict())
        assert take_changes([optimizer], given, before) == lines
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_every_setting_that_was_changed_takes_effect_and_is_said_once():
    def two(rate: float, **settings: Any) -> list[Adam]:
        return [Adam([nn.Parameter(torch.zeros(2))], rate, **settings) for _ in range(2)]

    first, second = two(0.1), two(0.3, eps=1e-5, betas=(0.5, 0.9), weight_decay=0.01)
    given = settings_of(second)
    for new, old in zip(second, first, strict=True):
        new.load_state_dict(old.state_dict())
    assert take_changes(second, given, settings_of(first)) == [
        "betas = (0.5, 0.9) replaces (0.9, 0.999) of the checkpoint",
        "eps = 1e-05 replaces 1e-08 of the checkpoint",
        "weight_decay = 0.01 replaces 0 of the checkpoint",
        "learning rate 0.3 replaces 0.1 of the checkpoint",
    ]
    assert settings_of(second) == given


def test_an_older_checkpoint_does_not_say_what_was_given():
    first, optimizer = (Adam([nn.Parameter(torch.zeros(2))], rate) for rate in (0.1, 0.3))
    given = settings_of([optimizer])
    optimizer.load_state_dict(first.state_dict())
    assert take_changes([optimizer], given, None) == ["learning rate 0.3 replaces 0.1 of the checkpoint"]
    assert optimizer.param_groups[0]["lr"] == 0.3


def test_a_fit_that_loads_no_optimizer_changes_none():
    """As after ``load_from_checkpoint``, whose optimizers are made afresh."""
    optimizer, schedule = sgd(0.4)
    settings, fit = OptimizerSettings(), trainer(optimizer, schedule, ckpt_path=None)
    settings.note(fit)
    settings.before = settings_of([sgd(0.1)[0]])
    step(optimizer, schedule)
    settings.resume(fit)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)


def test_settings_are_plain():
    optimizer = Adam([nn.Parameter(torch.zeros(2))], torch.tensor(0.1), eps=1e-5)
    ((settings,),) = settings_of([optimizer])
    assert "params" not in settings
    assert "lr" not in settings  # a tensor, which the state of the optimizer holds
    assert settings["eps"] == 1e-5
    assert take_changes([optimizer], [[settings]], [[settings | {"eps": 1e-8}]]) == [
        "eps = 1e-05 replaces 1e-08 of the checkpoint"
    ]
