import pytest
from lightning.pytorch import LightningModule

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget


@pytest.mark.parametrize(("total", "batches"), [(1, 1), (30, 3), (31, 4), (95, 10)])
def test_stops_at_the_first_batch_that_reaches_the_budget(fit, total, batches):
    module, _ = fit(EnvStepBudget(total), RolloutCheckpoint())
    assert module.trained == list(range(1, batches + 1))
    assert module.env_steps == 10 * batches


def test_validates_once_more_at_the_end(fit):
    module, _ = fit(EnvStepBudget(60), RolloutCheckpoint())  # epochs of four batches
    assert module.evaluated_at == [40, 60]


def test_resumed_run_does_only_what_is_left(fit, tmp_path):
    fit(EnvStepBudget(50), RolloutCheckpoint())
    module, _ = fit(EnvStepBudget(80), RolloutCheckpoint(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert module.trained == [6, 7, 8]
    assert module.env_steps == 80


def test_spent_budget_trains_nothing_and_says_so(fit, tmp_path, caplog):
    fit(EnvStepBudget(50), RolloutCheckpoint())
    module, _ = fit(EnvStepBudget(40), RolloutCheckpoint(), ckpt_path=tmp_path / "checkpoints" / "last.ckpt")
    assert module.trained == []
    assert "budget of 40 env steps is spent: the checkpoint already has 50" in caplog.text


def test_refuses_a_budget_that_is_not_positive():
    with pytest.raises(ValueError, match="total_env_steps = 0, expected total_env_steps >= 1"):
        EnvStepBudget(0)


def test_refuses_a_module_that_does_not_count(fit):
    with pytest.raises(TypeError, match=r"EnvStepBudget needs a learner .* got LightningModule, which"):
        EnvStepBudget(5).on_fit_start(None, LightningModule())
