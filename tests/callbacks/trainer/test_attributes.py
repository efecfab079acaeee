from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch import LightningModule, Trainer

from lit_rl import callbacks
from lit_rl.callbacks import EnvStepBudget, GracefulStop, RolloutCheckpoint
from lit_rl.callbacks.trainer.attributes import (
    data_module,
    exit_code_of_signal,
    is_dry_run,
    total_env_steps,
)

WATCH_NO_LEARNER = {"GracefulStop", "TensorBoardServer", "WandbRun"}


def make_trainer(*given: Any, **kwargs: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", callbacks=list(given), enable_checkpointing=False, **quiet, **kwargs)


@pytest.mark.parametrize(("value", "expected"), [(False, False), (True, True), (3, True)])
def test_dry_run(value, expected):
    assert is_dry_run(make_trainer(fast_dev_run=value)) is expected


def test_the_budget_of_the_run():
    assert total_env_steps(make_trainer(GracefulStop(), EnvStepBudget(95))) == 95
    assert total_env_steps(make_trainer(GracefulStop())) is None


def test_the_signal_that_ends_the_run():
    stop = GracefulStop()
    trainer = make_trainer(EnvStepBudget(5), stop)
    assert exit_code_of_signal(trainer) is None
    stop.exit_code = 143
    assert exit_code_of_signal(trainer) == 143
    assert exit_code_of_signal(make_trainer()) is None


def test_the_data_module_of_a_fit(fit):
    module, trainer = fit(EnvStepBudget(10), RolloutCheckpoint())
    assert data_module(trainer) is trainer.datamodule
    assert data_module(make_trainer()) is None
    assert module.env_steps == 10


@pytest.mark.parametrize("name", sorted({*callbacks.__all__} - WATCH_NO_LEARNER))
def test_every_callback_that_watches_a_learner_refuses_another_module_in_one_line(name):
    kind = getattr(callbacks, name)
    callback = kind(5) if name == "EnvStepBudget" else kind()
    with pytest.raises(TypeError, match=rf"^{name} needs a learner .*, got LightningModule, which has no "):
        callback.on_fit_start(make_trainer(), LightningModule())
