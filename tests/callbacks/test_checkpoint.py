from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget


class RaiseAt(Callback):
    def __init__(self, policy_version: int, error: BaseException) -> None:
        self.policy_version, self.error = policy_version, error

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if pl_module.policy_version == self.policy_version:
            raise self.error


def test_saves_last_every_so_many_batches_and_at_the_end(fit, monkeypatch):
    saved_at = []
    save = RolloutCheckpoint._save
    monkeypatch.setattr(
        RolloutCheckpoint,
        "_save",
        lambda self, trainer, name: (
            saved_at.append((name, trainer.lightning_module.policy_version)),
            save(self, trainer, name),
        ),
    )
    fit(EnvStepBudget(110), RolloutCheckpoint(every_batches=3, save_best=False))
    assert saved_at == [("last.ckpt", version) for version in (3, 6, 9, 11)]
    assert fit.saved == ["last.ckpt"]
    assert fit.load("last.ckpt")["state_dict"]["weight"].item() == 11


def test_lightning_adds_no_checkpoint_of_its_own(fit, tmp_path):
    _, trainer = fit(EnvStepBudget(10), RolloutCheckpoint())
    assert [type(callback).__name__ for callback in trainer.checkpoint_callbacks] == ["RolloutCheckpoint"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints"]


def test_best_is_the_best_validation_and_holds_no_replay(fit):
    checkpoint = RolloutCheckpoint()
    module, trainer = fit(EnvStepBudget(160), checkpoint, eval_returns=[1.0, 3.0, 2.0, float("nan")])
    assert module.evaluated_at == [40, 80, 120, 160]
    best = fit.load("best.ckpt")
    assert best["state_dict"]["weight"].item() == 8
    assert best["Stream"]["replay"] is None
    assert best["callbacks"]["RolloutCheckpoint"] == {"best_value": 3.0, "env_steps": 80}
    assert fit.load("last.ckpt")["Stream"]["replay"] == [1, 2, 3]
    assert trainer.datamodule.save_replay is True
    assert Path(checkpoint.best_model_path).name == "best.ckpt"


def test_mode_min_prefers_less(fit):
    fit(EnvStepBudget(120), RolloutCheckpoint(mode="min"), eval_returns=[2.0, 1.0, 3.0])
    assert fit.load("best.ckpt")["state_dict"]["weight"].item() == 8


def test_first_value_that_is_not_a_number_is_not_the_best(fit):
    fit(EnvStepBudget(40), RolloutCheckpoint(), eval_returns=[float("nan")])
    assert fit.saved == ["last.ckpt"]


def test_best_value_survives_a_resume_in_the_same_directory(fit, tmp_path):
    fit(EnvStepBudget(40), RolloutCheckpoint(), eval_returns=[5.0])
    last = tmp_path / "checkpoints" / "last.ckpt"
    fit(EnvStepBudget(80), RolloutCheckpoint(), eval_returns=[4.0], ckpt_path=last)
    assert fit.load("best.ckpt")["state_dict"]["weight"].item() == 4


def test_best_value_is_forgotten_where_its_file_is_not(fit, tmp_path):
    fit(EnvStepBudget(40), RolloutCheckpoint(), eval_returns=[5.0])
    fit.directory = tmp_path / "elsewhere"
    last = tmp_path / "checkpoints" / "last.ckpt"
    fit(EnvStepBudget(80), RolloutCheckpoint(), eval_returns=[4.0], ckpt_path=last)
    assert fit.load("best.ckpt")["state_dict"]["weight"].item() == 8


@pytest.mark.parametrize(
    ("every_batches", "killed_after"),
    [(every, after) for every in (1, 2, 3, 4, 5) for after in (3, 4, 5, 8, 9) if after > every],
)
def test_resume_trains_and_validates_like_a_run_that_was_never_killed(
    fit, tmp_path, every_batches, killed_after
):
    whole, _ = fit(EnvStepBudget(140), RolloutCheckpoint(every_batches))
    fit.directory = tmp_path / "killed"
    with pytest.raises(RuntimeError, match="power cut"):
        fit(
            EnvStepBudget(140),
            RolloutCheckpoint(every_batches),
            RaiseAt(killed_after, RuntimeError("power cut")),
        )
    last = fit.directory / "checkpoints" / "last.ckpt"
    resumed, _ = fit(EnvStepBudget(140), RolloutCheckpoint(every_batches), ckpt_path=last)
    saved_version = 14 - len(resumed.trained)
    assert resumed.trained == whole.trained[saved_version:]
    assert resumed.evaluated_at == [steps for steps in whole.evaluated_at if steps > 10 * saved_version]
    assert torch.equal(resumed.weight, whole.weight)


def test_periodic_checkpoints_are_named_by_env_steps_and_thinned(fit):
    fit(EnvStepBudget(120), RolloutCheckpoint(every_env_steps=25, save_best=False, keep_periodic=2))
    assert fit.saved == ["last.ckpt", "step_100.ckpt", "step_80.ckpt"]  # crossed at 30, 50, 80, 100


def test_all_periodic_checkpoints_are_kept_by_default(fit):
    fit(EnvStepBudget(60), RolloutCheckpoint(every_env_steps=20, save_best=False))
    assert fit.saved == ["last.ckpt", "step_20.ckpt", "step_40.ckpt", "step_60.ckpt"]


def test_exception_saves_interrupted_and_leaves_last_alone(fit):
    with pytest.raises(ValueError, match="broken"):
        fit(EnvStepBudget(90), RolloutCheckpoint(every_batches=3), RaiseAt(5, ValueError("broken")))
    assert fit.saved == ["best.ckpt", "interrupted.ckpt", "last.ckpt"]
    assert fit.load("interrupted.ckpt")["state_dict"]["weight"].item() == 5
    assert fit.load("last.ckpt")["state_dict"]["weight"].item() == 3


def test_exception_before_the_first_batch_saves_nothing(fit):
    with pytest.raises(ValueError, match="broken"):
        fit(EnvStepBudget(90), RolloutCheckpoint(), RaiseAt(0, ValueError("broken")))
    assert fit.saved == []


def test_failed_save_keeps_the_old_file_and_leaves_no_other(fit, monkeypatch):
    def break_off(self, filepath, *args, **kwargs):
        Path(filepath).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False))
    monkeypatch.setattr("lightning.pytorch.Trainer.save_checkpoint", break_off)
    with pytest.raises(OSError, match="No space left"):
        fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False))
    assert fit.saved == ["last.ckpt"]
    assert fit.load("last.ckpt")["state_dict"]["weight"].item() == 2


def test_fast_dev_run_writes_nothing(fit, tmp_path):
    fit(RolloutCheckpoint(every_batches=1), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_unknown_monitor_is_named(fit):
    with pytest.raises(
        MisconfigurationException,
        match=r"watches 'eval/foo', but the validation logged \['eval/return_mean'\]",
    ):
        fit(EnvStepBudget(50), RolloutCheckpoint(monitor="eval/foo"))


@pytest.mark.parametrize("name", ["every_batches", "every_env_steps", "keep_periodic"])
def test_refuses_numbers_that_are_not_positive(name):
    with pytest.raises(MisconfigurationException, match=f"{name} must be positive, got 0"):
        RolloutCheckpoint(**{name: 0})
