from pathlib import Path
from typing import ClassVar

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.plugins.io import TorchCheckpointIO

from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.graceful_stop import GracefulStop


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
    assert best["callbacks"]["RolloutCheckpoint"] == {"best_value": 3.0}
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


def test_nothing_is_written_into_the_folder_for_temporary_files(fit, monkeypatch):
    """A killed process leaves what lies there; beside the checkpoint the next start finds it."""

    def refuse(*args, **kwargs):
        raise AssertionError("a file in the system's folder for temporary files")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False))
    assert fit.saved == ["last.ckpt"]


def test_a_planted_link_is_replaced_by_the_checkpoint(fit, tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "checkpoints").mkdir()
    for name in ("last.ckpt", ".last.ckpt.unfinished"):
        (tmp_path / "checkpoints" / name).symlink_to(tmp_path / "victim")
    fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False))
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "checkpoints" / "last.ckpt").is_symlink()
    assert fit.load("last.ckpt")["state_dict"]["weight"].item() == 2


def test_a_plugin_of_the_user_still_saves(fit):
    class Own(TorchCheckpointIO):
        saved: ClassVar[list[str]] = []

        def save_checkpoint(self, checkpoint, path, storage_options=None):
            self.saved.append(Path(path).name)
            super().save_checkpoint(checkpoint, path, storage_options)

    fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False), plugins=[Own()])
    assert Own.saved == [".last.ckpt.unfinished"]


def test_fast_dev_run_writes_nothing(fit, tmp_path):
    fit(RolloutCheckpoint(every_batches=1), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_unknown_monitor_is_named(fit):
    with pytest.raises(
        MisconfigurationException,
        match="watches 'eval/foo', but the evaluation logged eval/return_mean: change monitor",
    ):
        fit(EnvStepBudget(50), RolloutCheckpoint(monitor="eval/foo"))


@pytest.mark.parametrize("name", ["every_batches", "every_env_steps", "keep_periodic"])
def test_refuses_numbers_that_are_not_positive(name):
    with pytest.raises(ValueError, match=f"{name} = 0, expected {name} >= 1"):
        RolloutCheckpoint(**{name: 0})


# Second names in models/


def models(fit) -> dict[str, float]:
    """Name and weight, which is the number of batches, of each file in ``models``."""
    paths = sorted((fit.directory / "models").iterdir())
    return {path.name: torch.load(path, weights_only=True)["state_dict"]["weight"].item() for path in paths}


def test_best_final_and_periodic_models_are_the_checkpoints_under_a_second_name(fit, tmp_path):
    checkpoint = RolloutCheckpoint(every_env_steps=25, models="hmasd")
    fit(EnvStepBudget(120), checkpoint, eval_returns=[1.0, 3.0, 2.0])
    assert models(fit) == {  # 25, 50, 75 and 100 are passed at 30, 50, 80 and 100
        "hmasd.pt": 8,
        "hmasd_100.pt": 10,
        "hmasd_25.pt": 3,
        "hmasd_50.pt": 5,
        "hmasd_75.pt": 8,
        "hmasd_final.pt": 12,
    }
    names = {"hmasd.pt": "best", "hmasd_final.pt": "last", "hmasd_25.pt": "step_30", "hmasd_75.pt": "step_80"}
    for model, saved in names.items():
        assert (tmp_path / "models" / model).samefile(tmp_path / "checkpoints" / f"{saved}.ckpt")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("m.pt", {"m.pt", "m_final.pt", "m_75.pt"}),
        ("m.pth", {"m.pth", "m_final.pth", "m_75.pth"}),
        ("v1.2", {"v1.2.pt", "v1.2_final.pt", "v1.2_75.pt"}),
    ],
)
def test_a_name_may_say_how_the_files_end(fit, tmp_path, name, expected):
    others = {"m_10.ckpt", "m_25.pth" if name == "m.pt" else "m_25.pt"}
    (tmp_path / "models").mkdir()
    for other in others:
        (tmp_path / "models" / other).touch()
    fit(EnvStepBudget(80), RolloutCheckpoint(every_env_steps=25, keep_periodic=1, models=name))
    assert {path.name for path in (tmp_path / "models").iterdir()} == expected | others


def test_no_models_without_a_name(fit, tmp_path):
    fit(EnvStepBudget(50), RolloutCheckpoint(every_env_steps=25))
    assert not (tmp_path / "models").exists()


def test_batches_larger_than_the_period_are_named_by_the_last_multiple_they_pass(fit):
    fit(EnvStepBudget(30), RolloutCheckpoint(every_env_steps=4, save_best=False, models="m"))
    assert models(fit) == {"m_8.pt": 1, "m_20.pt": 2, "m_28.pt": 3, "m_final.pt": 3}


def test_periodic_models_are_thinned_and_other_files_are_left_alone(fit, tmp_path):
    others = ["m_final_10.pt", "mm_10.pt", "m_10.pth", "m_old.pt"]
    (tmp_path / "models").mkdir()
    for name in others:
        (tmp_path / "models" / name).touch()
    fit(EnvStepBudget(120), RolloutCheckpoint(every_env_steps=25, keep_periodic=2, models="m"))
    written = {path.name for path in (tmp_path / "models").iterdir()} - set(others)
    assert written == {"m.pt", "m_75.pt", "m_100.pt", "m_final.pt"}
    assert all((tmp_path / "models" / name).exists() for name in others)
    assert fit.saved == ["best.ckpt", "last.ckpt", "step_100.ckpt", "step_80.ckpt"]


class StopAt(GracefulStop):
    """Stops as after a signal in that batch."""

    def __init__(self, policy_version: int) -> None:
        super().__init__()
        self.policy_version = policy_version

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.policy_version == self.policy_version:
            self.exit_code, trainer.should_stop = 143, True


def test_a_run_that_was_stopped_has_no_final_model(fit):
    fit(EnvStepBudget(120), RolloutCheckpoint(save_best=False, models="m"), StopAt(3))
    assert fit.load("last.ckpt")["state_dict"]["weight"].item() == 3
    assert not (fit.directory / "models").exists()


def test_a_run_that_broke_has_no_final_model(fit):
    with pytest.raises(ValueError, match="broken"):
        fit(EnvStepBudget(90), RolloutCheckpoint(models="m"), RaiseAt(5, ValueError("broken")))
    assert list(models(fit)) == ["m.pt"]


def test_a_run_stopped_in_its_last_batch_has_a_final_model_once_it_is_resumed(fit):
    last = fit.directory / "checkpoints" / "last.ckpt"
    fit(EnvStepBudget(30), RolloutCheckpoint(save_best=False, models="m"), StopAt(3))
    fit(EnvStepBudget(30), RolloutCheckpoint(save_best=False, models="m"), ckpt_path=last)
    assert models(fit) == {"m_final.pt": 3}


def test_a_resumed_run_gives_the_best_so_far_its_second_name(fit):
    fit(EnvStepBudget(40), RolloutCheckpoint(), eval_returns=[5.0])
    last = fit.directory / "checkpoints" / "last.ckpt"
    fit(EnvStepBudget(80), RolloutCheckpoint(models="m"), eval_returns=[4.0], ckpt_path=last)
    assert models(fit) == {"m.pt": 4, "m_final.pt": 8}


def test_resume_from_a_model_is_resume_from_its_checkpoint(fit, tmp_path):
    fit(EnvStepBudget(120), RolloutCheckpoint(every_env_steps=50, models="m"))
    saved = {"m_50.pt": "step_50.ckpt", "m_100.pt": "step_100.ckpt", "m.pt": "best.ckpt"}
    for model, checkpoint in saved.items():
        resumed = []
        for index, path in enumerate((tmp_path / "models" / model, tmp_path / "checkpoints" / checkpoint)):
            fit.directory = tmp_path / f"{model}-{index}"
            module, _ = fit(EnvStepBudget(160), RolloutCheckpoint(), ckpt_path=path)
            resumed.append((module.trained, module.evaluated_at, module.weight.item()))
        assert resumed[0] == resumed[1]
        assert resumed[0][0]


def test_a_model_in_use_keeps_its_content_while_training_goes_on(fit, tmp_path):
    """A process that reads the best model has the file that it opened."""
    fit(EnvStepBudget(40), RolloutCheckpoint(models="m"), eval_returns=[1.0])
    with (tmp_path / "models" / "m.pt").open("rb") as opened:
        last = tmp_path / "checkpoints" / "last.ckpt"
        fit(EnvStepBudget(80), RolloutCheckpoint(models="m"), eval_returns=[2.0], ckpt_path=last)
        assert torch.load(opened, weights_only=True)["state_dict"]["weight"].item() == 4
    assert models(fit)["m.pt"] == 8


def test_failed_save_keeps_the_old_model(fit, monkeypatch):
    def break_off(self, filepath, *args, **kwargs):
        Path(filepath).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False, models="m"))
    monkeypatch.setattr("lightning.pytorch.Trainer.save_checkpoint", break_off)
    with pytest.raises(OSError, match="No space left"):
        fit(EnvStepBudget(20), RolloutCheckpoint(save_best=False, models="m"))
    assert models(fit) == {"m_final.pt": 2}


def test_fast_dev_run_writes_no_models(fit, tmp_path):
    fit(RolloutCheckpoint(every_batches=1, every_env_steps=1, models="m"), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "a/b", "models/", ".", ".pt", ".pth", "a/b.pth"])
def test_refuses_names_of_models_that_are_no_file_names(name):
    with pytest.raises(MisconfigurationException, match="models must be the beginning of file names"):
        RolloutCheckpoint(models=name)
