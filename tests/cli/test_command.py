"""Whole commands in this process, on an environment that takes a second."""

import csv
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.cli.conftest import the_run


def read_steps(directory: Path) -> list[int]:
    with (directory / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_fit_fills_its_own_run_directory(run, cwd, capsys):
    assert run("fit", "--config", "tiny.yaml", "--seed_everything", "7") == 0
    path = the_run(cwd)
    assert path.name.endswith("-seed7")
    assert (cwd / "runs" / "tiny" / "latest").resolve() == path
    names = sorted(file.name.partition(".tfevents")[0] for file in path.iterdir())
    assert names == [
        "checkpoints",
        "config.yaml",
        "events.out",
        "metrics.csv",
        "process.json",
        "versions.json",
    ]
    assert sorted(file.name for file in (path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert read_steps(path) == [32, 64, 96, 128]
    out = capsys.readouterr().out
    assert out.startswith("return ")
    assert f"over 2 episodes, length {'':.0}" in out
    assert out.endswith(f"env steps 128, checkpoint {path.relative_to(cwd)}/checkpoints/last.ckpt\n")


def test_saved_configuration_is_whole_and_repeats_the_run(run, fitted, cwd):
    saved = yaml.safe_load((fitted / "config.yaml").read_text())
    assert saved["seed_everything"] == 7
    assert saved["model"]["init_args"]["gamma"] == 0.99  # a default
    assert set(saved) == {"seed_everything", "trainer", "model", "data", "budget", "checkpoint"}
    (cwd / "runs" / "again").mkdir()
    assert run("fit", "--config", fitted / "config.yaml", "--run_dir", "runs/again/a") == 0
    weights = [
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for path in (fitted, Path("runs/again/a"))
    ]
    assert weights[0].keys() == weights[1].keys()
    tensors = [name for name, value in weights[0].items() if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in tensors)


def test_repeated_run_lies_beside_the_first(run, fitted, cwd):
    assert run("fit", "--config", fitted / "config.yaml", "--budget.total_env_steps", "32") == 0
    assert len([path for path in (cwd / "runs" / "tiny").iterdir() if not path.is_symlink()]) == 2


def test_seed_is_drawn_and_saved(run, cwd, monkeypatch):
    monkeypatch.setattr("secrets.randbelow", lambda below: 12345)
    assert run("fit", "--config", "tiny.yaml", "--budget.total_env_steps", "32") == 0
    path = the_run(cwd)
    assert path.name.endswith("-seed12345")
    assert yaml.safe_load((path / "config.yaml").read_text())["seed_everything"] == 12345


def test_later_configuration_and_command_line_win(run, cwd):
    (cwd / "over.yaml").write_text(
        "model: {init_args: {gamma: 0.5, clip: 0.3}}\nbudget: {total_env_steps: 32}\n"
    )
    assert run("fit", "--config", "tiny.yaml", "--config", "over.yaml", "--model.clip", "0.1") == 0
    saved = yaml.safe_load((the_run(cwd) / "config.yaml").read_text())
    arguments = saved["model"]["init_args"]
    assert (arguments["gamma"], arguments["clip"], arguments["hidden"]) == (0.5, 0.1, [8])
    assert saved["budget"]["total_env_steps"] == 32


def test_fast_dev_run_leaves_nothing_behind(run, cwd):
    assert run("fit", "--config", "tiny.yaml", "--trainer.fast_dev_run", "true") == 0
    assert [path.name for path in cwd.iterdir()] == ["tiny.yaml"]


def test_root_of_the_runs_and_loggers_can_be_chosen(run, cwd):
    args = ["--trainer.default_root_dir", "elsewhere", "--trainer.logger", "false"]
    assert run("fit", "--config", "tiny.yaml", *args) == 0
    (path,) = [path for path in (cwd / "elsewhere" / "tiny").iterdir() if not path.is_symlink()]
    names = ["checkpoints", "config.yaml", "process.json", "versions.json"]
    assert sorted(file.name for file in path.iterdir()) == names


def test_callbacks_can_be_added_and_replaced(run, cwd, capsys):
    args = ["--trainer.callbacks+=EnvStepsProgressBar", "--trainer.callbacks.line_interval_s", "0"]
    assert run("fit", "--config", "tiny.yaml", *args) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("env steps ")]
    assert len(lines) == 4


def test_resume_goes_on_in_the_same_directory(run, fitted, cwd, capsys):
    assert (
        run(
            "fit",
            "--config",
            fitted / "config.yaml",
            "--ckpt_path",
            "last",
            "--budget.total_env_steps",
            "224",
        )
        == 0
    )
    assert the_run(cwd).relative_to(cwd) == fitted
    assert read_steps(fitted) == [32, 64, 96, 128, 160, 192, 224]
    assert (fitted / "config-1.yaml").exists()
    assert yaml.safe_load((fitted / "config.yaml").read_text())["budget"]["total_env_steps"] == 224
    assert yaml.safe_load((fitted / "config.yaml").read_text())["seed_everything"] == 7
    assert "environments, random generators and data continue bit for bit" in capsys.readouterr().err


def test_resumed_run_equals_one_that_was_not_stopped(run, fitted, cwd):
    more = ["--budget.total_env_steps", "256"]
    assert run("fit", "--config", fitted / "config.yaml", "--run_dir", "whole", *more) == 0
    assert (
        run(
            "fit",
            "--config",
            fitted / "config.yaml",
            "--ckpt_path",
            fitted / "checkpoints" / "last.ckpt",
            *more,
        )
        == 0
    )
    whole, resumed = (
        torch.load(p / "checkpoints" / "last.ckpt", weights_only=True) for p in (cwd / "whole", fitted)
    )
    for name, value in whole["state_dict"].items():
        assert not isinstance(value, torch.Tensor) or torch.equal(value, resumed["state_dict"][name])


def test_resume_into_another_directory(run, fitted, cwd):
    args = ["--ckpt_path", fitted / "checkpoints" / "last.ckpt", "--budget.total_env_steps", "160"]
    assert run("fit", "--config", "tiny.yaml", *args, "--run_dir", "other") == 0
    assert read_steps(cwd / "other") == [160]
    assert read_steps(fitted) == [32, 64, 96, 128]


def test_rows_beyond_the_checkpoint_are_replaced(run, cwd):
    assert run("fit", "--config", "tiny.yaml", "--checkpoint.every_env_steps", "64") == 0
    path = the_run(cwd)
    checkpoint = path / "checkpoints" / "step_64.ckpt"
    assert (
        run(
            "fit",
            "--config",
            path / "config.yaml",
            "--ckpt_path",
            checkpoint,
            "--budget.total_env_steps",
            "96",
        )
        == 0
    )
    assert read_steps(path) == [32, 64, 96]


def test_a_resumed_run_says_what_changed_in_its_data(run, fitted, capsys):
    capsys.readouterr()
    args = ["--ckpt_path", "last", "--data.rollout_steps", "8", "--seed_everything", "9"]
    assert run("fit", "--config", fitted / "config.yaml", *args, "--budget.total_env_steps", "144") == 0
    err = capsys.readouterr().err
    assert "data.rollout_steps = 8 replaces 16 of the checkpoint" in err
    assert f"seed_everything = 9 replaces 7 of the run {fitted}" in err


@pytest.mark.parametrize("is_made", [True, False])
def test_a_run_ended_before_its_first_checkpoint_begins_again(run, fitted, cwd, capsys, is_made):
    shutil.rmtree(fitted / "checkpoints")
    if is_made:
        (fitted / "checkpoints").mkdir()
    capsys.readouterr()
    assert run("fit", "--config", fitted / "config.yaml", "--ckpt_path", "last") == 0
    assert f"run {fitted} was ended before its first checkpoint: it begins again" in capsys.readouterr().err
    assert the_run(cwd) == cwd / fitted
    assert read_steps(fitted) == [32, 64, 96, 128]
    assert (fitted / "checkpoints" / "last.ckpt").is_file()


def test_a_full_disk_names_the_run_directory(error, cwd, monkeypatch):
    def refuse(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lit_rl.cli.metrics_csv.MetricsCSV._append", refuse)
    message = error(1, "fit", "--config", "tiny.yaml", "--seed_everything", "7", "--run_dir", "full")
    assert message == (
        "the disk of run directory full is full (No space left on device): free space, and go on by "
        "lit-rl fit --config full/config.yaml --ckpt_path last"
    )
    process = json.loads((cwd / "full" / "process.json").read_text())
    assert (process["state"], process["exit_code"]) == ("failed", 1)


def test_a_place_that_cannot_be_written_is_one_line(error, fitted, monkeypatch):
    (fitted / ".trajectories.pt.unfinished").mkdir()
    message = error(1, "predict", "--config", fitted / "config.yaml", "--ckpt_path", "last")
    assert message == f"{fitted}/trajectories.pt cannot be written: Is a directory"

    def refuse(*args: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("lit_rl.algos.export.export_policy", refuse)
    message = error(1, "export", fitted / "checkpoints" / "last.ckpt", "--out", "policy.pt2")
    assert message == "--out policy.pt2 cannot be written: Permission denied"


def test_a_resumed_run_follows_no_planted_link(run, fitted, cwd):
    victims = {name: cwd / f"victim_{name}" for name in ("versions.json", "metrics.csv", "eval.json")}
    for name, victim in victims.items():
        (fitted / name).unlink(missing_ok=True)
        (fitted / name).symlink_to(victim)
    args = ["--ckpt_path", "last", "--budget.total_env_steps", "160"]
    assert run("fit", "--config", fitted / "config.yaml", *args) == 0
    assert run("test", "--config", fitted / "config.yaml", "--ckpt_path", "last") == 0
    assert not any(victim.exists() for victim in victims.values())
    assert read_steps(fitted) == [160]


def test_command_line_beats_checkpoint_beats_configuration(run, cwd, capsys):
    assert run("fit", "--config", "tiny.yaml", "--model.gamma", "0.9", "--model.hidden", "[4]") == 0
    last = the_run(cwd) / "checkpoints" / "last.ckpt"
    capsys.readouterr()
    args = ["--ckpt_path", last, "--model.gamma", "0.8", "--budget.total_env_steps", "160"]
    assert run("fit", "--config", "tiny.yaml", *args, "--run_dir", "other") == 0
    arguments = yaml.safe_load((cwd / "other" / "config.yaml").read_text())["model"]["init_args"]
    assert (arguments["gamma"], arguments["hidden"]) == (0.8, [4])
    err = capsys.readouterr().err
    assert "model.gamma = 0.8 from the command line replaces 0.9 of the checkpoint" in err
    assert "model.hidden = [4] from the checkpoint replaces [8] of the configuration" in err


def test_test_reports_and_writes_json(run, fitted, capsys):
    capsys.readouterr()
    assert run("test", "--config", fitted / "config.yaml", "--ckpt_path", "best") == 0
    best = f"{fitted}/checkpoints/best.ckpt"
    result = json.loads((fitted / "eval.json").read_text())
    of_returns = {"return_mean", "return_std", "return_min", "return_max"}
    others = {"length_mean", "episodes", "env_steps", "eval_policy", "checkpoint"}
    assert set(result) == of_returns | others
    assert (result["episodes"], result["eval_policy"], result["checkpoint"]) == (2, "greedy", best)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"return {result['return_mean']:.1f} (95 % interval ")
    assert first.endswith(f"env steps {result['env_steps']}, checkpoint {best}")
    assert second == f"written {fitted}/eval.json"


def test_a_sampled_evaluation_says_so_and_can_be_repeated(run, fitted, capsys):
    capsys.readouterr()
    arguments = ["--config", fitted / "config.yaml", "--ckpt_path", "last", "--data.eval_episodes", "8"]
    results = []
    for policy, words in (("greedy", "greedy"), ("sample", "sampled"), ("sample", "sampled")):
        for command in ("test", "validate"):
            assert run(command, *arguments, "--data.eval_policy", policy) == 0
            assert f" of the {words} policy over 8 episodes, length " in capsys.readouterr().out
        results.append(json.loads((fitted / "eval.json").read_text()))
    greedy, sampled, again = results
    assert (greedy["eval_policy"], sampled["eval_policy"]) == ("greedy", "sample")
    assert greedy["return_mean"] != sampled["return_mean"]
    assert sampled == again


def test_training_may_be_evaluated_by_the_sampled_policy(run, fitted, cwd, capsys):
    """It is told at the end, kept in the configuration, and changes no weight."""
    capsys.readouterr()
    arguments = ["--config", "tiny.yaml", "--seed_everything", "7", "--run_dir", "sampled"]
    assert run("fit", *arguments, "--data.eval_policy", "sample") == 0
    assert " of the sampled policy over 2 episodes, length " in capsys.readouterr().out
    config = yaml.safe_load(Path("sampled/config.yaml").read_text())
    assert config["data"]["init_args"]["eval_policy"] == "sample"
    greedy, sampled = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for path in (fitted, Path("sampled"))
    )
    tensors = [name for name, value in greedy.items() if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(torch.equal(greedy[name], sampled[name]) for name in tensors)


def test_an_unknown_evaluation_policy_is_refused(error, fitted):
    arguments = ["--config", fitted / "config.yaml", "--ckpt_path", "last", "--data.eval_policy", "random"]
    message = error(2, "test", *arguments)
    assert "eval_policy" in message
    assert "'greedy', 'sample'" in message


def test_validate_writes_nothing(run, fitted, capsys):
    before = sorted(fitted.rglob("*"))
    capsys.readouterr()
    assert run("validate", "--config", fitted / "config.yaml", "--ckpt_path", "last") == 0
    assert capsys.readouterr().out.startswith("return ")
    assert sorted(fitted.rglob("*")) == before


def test_evaluation_goes_by_the_checkpoint_wherever_the_configuration_lies(run, fitted):
    checkpoint = fitted / "checkpoints" / "last.ckpt"
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", checkpoint, "--data.eval_episodes", "3") == 0
    assert json.loads((fitted / "eval.json").read_text())["episodes"] == 3


def test_latest_is_resolved_before_it_moves(run, fitted, cwd):
    assert run("test", "--config", "runs/tiny/latest/config.yaml", "--ckpt_path", "last") == 0
    assert json.loads((fitted / "eval.json").read_text())["checkpoint"] == f"{fitted}/checkpoints/last.ckpt"


def test_predict_writes_trajectories(run, fitted):
    assert run("predict", "--config", fitted / "config.yaml", "--ckpt_path", "last") == 0
    (trajectories,) = torch.load(fitted / "trajectories.pt", weights_only=True)
    assert trajectories["action"].shape == (16, 2)


def test_checkpoint_of_another_environment(error, fitted, cwd):
    args = [
        "--ckpt_path",
        fitted / "checkpoints" / "last.ckpt",
        "--data.env",
        "Acrobot-v1",
        "--run_dir",
        "other",
    ]
    message = error(1, "fit", "--config", "tiny.yaml", *args)
    assert "CartPole-v1" in message
    assert "Acrobot-v1" in message
    assert not (cwd / "other").exists()


def test_checkpoint_of_another_network(error, fitted):
    args = ["--ckpt_path", fitted / "checkpoints" / "last.ckpt", "--model.hidden", "[4]"]
    message = error(1, "fit", "--config", "tiny.yaml", *args)
    assert message.startswith(
        f"checkpoint {fitted}/checkpoints/last.ckpt does not fit the networks configured (size"
    )
    assert message.endswith(f"give --config {fitted}/config.yaml")
    assert (fitted / "checkpoints" / "last.ckpt").exists()


def test_checkpoint_of_another_learner(error, fitted):
    args = ["--ckpt_path", fitted / "checkpoints" / "last.ckpt"]
    other = ["--model", "SAC", "--data", "ReplayDataModule", "--data.env", "Pendulum-v1"]
    message = error(2, "fit", *args, *other, "--budget.total_env_steps", "100")
    assert "holds a lit_rl" in message
    assert "PPO, but the configuration asks for lit_rl" in message


def test_missing_checkpoint_names_those_there(error, fitted):
    message = error(2, "test", "--config", "tiny.yaml", "--ckpt_path", fitted / "checkpoints" / "bets.ckpt")
    assert message.endswith(f"does not exist; {fitted}/checkpoints holds best.ckpt, last.ckpt")


def test_a_checkpoint_that_breaks_off_keeps_the_run_that_it_belongs_to(error, fitted):
    last = fitted / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:1000])
    message = error(1, "fit", "--config", fitted / "config.yaml", "--ckpt_path", "last")
    assert message.startswith(f"checkpoint {last} cannot be read")
    assert read_steps(fitted) == [32, 64, 96, 128]


@pytest.mark.parametrize("name", ["trainer/cpu", "trainer/bf16", "callbacks/periodic_checkpoints"])
def test_every_shipped_addition_works(run, name):
    assert run("fit", "--config", "tiny.yaml", "--config", name, "--trainer.accelerator", "cpu") == 0
