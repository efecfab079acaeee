import logging
import os
import signal
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from lightning.pytorch import Callback

from lit_rl import PPO, RolloutDataModule
from lit_rl.callbacks import wandb_run
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.wandb_run import WandbRows, WandbRun
from tests import wandb_file
from tests.processes import Forked, commands_of_children, is_alive, wait_until
from tests.toys import Episodes57, MemoryLogger, fit, make_trainer
from tests.wandb_file import WandbFile

EXTRA = {
    "actor/episode_reward": 12.5,
    "actor/total_steps": 60.0,
    "sac/actor_loss": -0.25,
    "timer/train": 0.5,
    "learner/update_steps": 7.0,
    "Training/Episode_Reward": float("nan"),
    "Eval/MeanReward": float("inf"),
}


class LogsExtra(Callback):
    """Logs what learners do not, as other callbacks do."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        pl_module.log_values(EXTRA | {"env/step": float(pl_module.env_steps)})


class Fails(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any, **kwargs: Any) -> None:
        if pl_module.policy_version == 4:
            raise RuntimeError("on purpose")


def train(
    directory: Path, *callbacks: Callback, ckpt_path: Path | None = None, **kwargs: Any
) -> MemoryLogger:
    """A small PPO fit with a logger that keeps everything."""
    module = PPO(hidden=(8,), batch_size=32, update_epochs=1)
    data = RolloutDataModule(Episodes57, num_envs=4, rollout_steps=8, rollouts_per_epoch=3)
    logger = MemoryLogger()
    trainer = make_trainer(default_root_dir=directory, logger=logger, callbacks=list(callbacks), **kwargs)
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path)
    finally:
        assert trainer.loggers == [logger]  # the callback took its own out again
        for callback in callbacks:
            if isinstance(callback, WandbRun):
                callback.wait()
    trainer.save_checkpoint(directory / "end.ckpt")
    return logger


def wandb_processes() -> list[str]:
    """Command lines of processes that W&B, or we for it, started from here and that still run."""
    return [command for command in commands_of_children() if "wandb" in command]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryLogger, WandbFile]:
    """A recorded run: its directory, what was logged, and what W&B wrote."""
    directory = tmp_path_factory.mktemp("runs") / "go2" / "seed0"
    directory.mkdir(parents=True)
    (directory / "config.yaml").write_text(
        "# of a test\nmodel: {class_path: PPO, init_args: {hidden: [8]}}\n"
    )
    (directory / "versions.json").write_text('{"lit_rl": "0.1.0"}')
    environment = dict(os.environ)
    callback = WandbRun(
        project="go2_sac_training",
        group="GO2_SAC_Training",
        job_type="actor",
        tags=["go2", "sac"],
        notes="of a test",
    )
    logger = train(directory, LogsExtra(), callback)
    assert dict(os.environ) == environment
    assert wandb_processes() == []
    [path] = wandb_file.find(directory)
    return directory, logger, wandb_file.read(path)


def test_every_logged_value_is_in_the_file(run):
    _, logger, file = run
    assert [step for step, _ in logger.rows] == [32, 64, 96]
    assert logger.rows[0][1].keys() >= EXTRA.keys()
    assert "env_steps" not in logger.rows[0][1]
    expected = [{**values, "env_steps": step} for step, values in logger.rows]
    assert [sorted(row) for row in file.rows] == [sorted(row) for row in expected]
    for row, values in zip(file.rows, expected, strict=True):
        assert row == pytest.approx(values, nan_ok=True)


def test_every_name_has_its_axis(run):
    _, logger, file = run
    axes = {
        "actor/*": "actor/total_steps",
        "sac/*": "learner/update_steps",
        "learner/*": "learner/update_steps",
        "timer/*": "learner/update_steps",
        "loss/*": "env_steps",
        "Training/*": "env_steps",
        "Eval/*": "env_steps",
    }
    assert axes.items() <= file.axes.items()
    own = {"env_steps", "actor/total_steps", "learner/update_steps"}
    assert {name for name, axis in file.axes.items() if not axis} == own
    for name in {name for _, values in logger.rows for name in values} - own:
        [pattern] = [pattern for pattern in file.axes if fnmatch(name, pattern)]  # W&B takes any that fits
        assert file.axes[pattern] == axes.get(pattern, "env_steps")


def test_run_is_described(run):
    directory, _, file = run
    assert (file.project, file.group, file.job_type) == ("go2_sac_training", "GO2_SAC_Training", "actor")
    assert (file.name, file.notes, file.tags) == ("go2/seed0", "of a test", ["go2", "sac"])
    saved = yaml.safe_load((directory / "config.yaml").read_text())
    assert file.config["model"] == saved["model"]
    assert file.config["versions"] == {"lit_rl": "0.1.0"}
    assert "hidden" not in file.config
    assert file.exit_code == 0


def test_what_is_torn_off_is_not_read(run, tmp_path):
    directory, _, file = run
    whole = wandb_file.find(directory)[0].read_bytes()
    (tmp_path / "torn.wandb").write_bytes(whole[: len(whole) * 2 // 3])
    torn = wandb_file.read(tmp_path / "torn.wandb")
    assert torn.exit_code is None
    assert torn.rows == file.rows[: len(torn.rows)]


def test_training_that_goes_on_keeps_the_id_and_a_failed_run_says_so(run):
    directory, _, file = run
    with pytest.raises(RuntimeError, match="on purpose"):
        train(directory, WandbRun(name="Actor-go2"), Fails(), ckpt_path=directory / "end.ckpt", max_epochs=2)
    paths = wandb_file.find(directory)
    assert len(paths) == 2
    second = wandb_file.read(paths[1])
    assert second.id == file.id
    assert (second.name, second.exit_code) == ("Actor-go2", 1)
    assert second.rows[0]["env_steps"] == 128
    assert wandb_processes() == []


@pytest.mark.parametrize(("mode", "fast_dev_run"), [("disabled", False), ("offline", True)])
def test_disabled_run_and_fast_dev_run_leave_nothing(tmp_path, mode, fast_dev_run):
    module = PPO(hidden=(8,), batch_size=32, update_epochs=1)
    seen: list[list[str]] = []

    class Counts(Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            seen.append(wandb_processes())

    data = RolloutDataModule(Episodes57, num_envs=4, rollout_steps=8, rollouts_per_epoch=1)
    fit(
        module,
        data,
        callbacks=[WandbRun(mode=mode), Counts()],
        default_root_dir=tmp_path,
        fast_dev_run=fast_dev_run,
    )
    assert seen == [[]]
    assert list(tmp_path.iterdir()) == []


def test_unwritable_directory_is_one_warning(tmp_path, caplog):
    (tmp_path / "wandb").write_text("a file where the folder should be")
    train(tmp_path, WandbRun())
    [warning] = warnings_of(caplog)
    assert warning.startswith("W&B is off from here on (FileExistsError")
    assert warning.endswith("; training goes on without it")


def test_killed_process_is_one_warning(tmp_path, caplog, monkeypatch):
    class Kills(Callback):
        def on_train_batch_start(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
            for row in trainer.loggers:
                if isinstance(row, WandbRows) and row._companion._process.poll() is None:
                    os.kill(row._companion.pid, signal.SIGKILL)
                    row._companion._process.wait()

    monkeypatch.setattr(wandb_run, "PUSH_INTERVAL_S", 0.0)
    logger = train(tmp_path, WandbRun(), Kills())
    assert len(logger.rows) == 3
    assert warnings_of(caplog) == [
        "W&B is off from here on (its process was killed); training goes on without it"
    ]


def test_process_that_cannot_start_is_one_warning(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    train(tmp_path, WandbRun())
    [warning] = warnings_of(caplog)
    assert warning.startswith("W&B is off, it could not be started: [Errno 2] No such file")


def test_dropped_rows_are_counted_and_a_run_that_hangs_does_not_hold_up(tmp_path, caplog):
    rows = WandbRows(tmp_path, {})
    os.kill(rows._companion.pid, signal.SIGSTOP)
    rows._companion.channel.max_unsent = 1000
    for step in range(20_000):
        rows.log_metrics({f"loss/{i}": 0.1 for i in range(10)}, step)
    rows.finish(0, timeout_s=0.05)
    rows.wait()
    first, total, end = warnings_of(caplog)
    assert "rows are dropped, wandb is slower than training" in first
    assert " of 20000 rows were dropped" in total
    assert end == "W&B: its process did not confirm the end of the run; the last rows may be missing"
    rows.log_metrics({"loss/0": 1.0}, 1)  # nothing happens


def endless(directory: str) -> None:
    """A fit that is never over, for ``Forked``."""
    train(Path(directory), LogsExtra(), WandbRun(), EnvStepBudget(10**9), max_epochs=-1)


@pytest.mark.wide  # W&B takes a quarter of a minute to give up a trainer that is gone
def test_run_of_a_killed_trainer_ends_as_failed_with_all_its_rows(tmp_path):
    trainer = Forked(endless, str(tmp_path), cwd=tmp_path, log=tmp_path / "log")
    try:
        wait_until(lambda: list(tmp_path.glob("wandb/*run-*/files")), 60, trainer.output)
        children = psutil.Process(trainer.pid).children(recursive=True)
        trainer.process.kill()
        psutil.wait_procs(children, timeout=30)
        assert [child for child in children if is_alive(child.pid)] == []
    finally:
        trainer.kill()
    file = wandb_file.read(wandb_file.find(tmp_path)[0])
    assert file.exit_code == 1
    assert file.column("env_steps")[:4] == [32, 64, 96, 128]
    assert file.config["hidden"] == [8]  # without a config.yaml, the hyper-parameters of the module


def test_mode_is_checked():
    with pytest.raises(ValueError, match="mode = 'on', expected online, offline or disabled"):
        WandbRun(mode="on")


def test_the_environment_may_disable_it(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert WandbRun(mode="online").mode == "disabled"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert WandbRun(mode="online").mode == "online"


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and r.name == "lit_rl"]
