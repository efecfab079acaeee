"""Flags of Lightning's Trainer as a user of the command line gives them."""

import csv

import pytest
import yaml

from tests.cli.conftest import the_run

FIT = ("fit", "--config", "tiny.yaml", "--seed_everything", "7")


def read_rows(directory):
    with (directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_max_steps_counts_env_steps(run, cwd, capsys):
    assert run(*FIT, "--trainer.max_steps", "64") == 0
    assert [row["step"] for row in read_rows(the_run(cwd))] == ["32", "64"]
    assert "env steps 64" in capsys.readouterr().out


def test_without_checkpoints(run, cwd):
    assert run(*FIT, "--trainer.enable_checkpointing", "false") == 0
    assert not (the_run(cwd) / "checkpoints").exists()
    assert len(read_rows(the_run(cwd))) == 4


def test_what_keeps_nothing_is_refused(error, cwd):
    assert error(2, *FIT, "--trainer.barebones", "true").startswith(
        "--trainer.barebones true would keep nothing of a run: no log, no checkpoint, no progress; use"
    )
    assert not (cwd / "runs").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--trainer.precision", "bf16-true"],
            "trainer.precision must be one of 32-true, 64-true, bf16-mixed",
        ),
        (["--trainer.overfit_batches", "1"], "trainer.overfit_batches must be 0, got 1: every batch is"),
        (["--trainer.gradient_clip_val", "1"], "trainer.gradient_clip_val is not used: a learner clips"),
        (
            ["--checkpoint.monitor", "eval/retun_mean"],
            "RolloutCheckpoint watches 'eval/retun_mean', which nothing logs",
        ),
        (["--trainer.callbacks", "LearningRateFinder"], "LearningRateFinder: it raises the rate"),
    ],
)
def test_what_would_be_without_effect_is_refused_before_anything_is_made(error, cwd, flags, message):
    assert error(1, *FIT, *flags).startswith(message)
    assert not (cwd / "runs").exists()


def test_best_by_a_value_of_training(run, cwd):
    assert run(*FIT, "--checkpoint.monitor", "episode/length_mean") == 0
    assert (the_run(cwd) / "checkpoints" / "best.ckpt").is_file()


def test_best_without_evaluations(run, cwd):
    flags = ("--checkpoint.monitor", "episode/length_mean", "--trainer.limit_val_batches", "0")
    assert run(*FIT, *flags) == 0
    assert (the_run(cwd) / "checkpoints" / "best.ckpt").is_file()


def test_early_stopping_by_a_value_of_training(run, cwd):
    flags = {"monitor": "episode/length_mean", "mode": "max", "stopping_threshold": 1.0}
    layer = {"trainer": {"callbacks": [{"class_path": "EarlyStopping", "init_args": flags}]}}
    (cwd / "stop.yaml").write_text(yaml.safe_dump(layer))
    assert run(*FIT, "--config", "stop.yaml") == 0
    assert [row["step"] for row in read_rows(the_run(cwd))] == ["32", "64"]  # the first epoch


def test_learning_rates_share_the_rows_of_their_env_steps(run, cwd):
    assert run(*FIT, "--trainer.callbacks", "LearningRateMonitor") == 0
    rows = read_rows(the_run(cwd))
    assert [row["step"] for row in rows] == ["0", "32", "64", "96", "128"]
    assert [bool(row["lr-FlatAdam"]) for row in rows] == [True, True, True, True, False]
    assert [bool(row["loss/policy"]) for row in rows] == [False, True, True, True, True]


def test_a_timer(run, cwd):
    assert run(*FIT, "--trainer.callbacks", "Timer", "--trainer.callbacks.duration", "00:01:00:00") == 0
    saved = yaml.safe_load((the_run(cwd) / "config.yaml").read_text())
    (timer,) = saved["trainer"]["callbacks"]
    assert timer["init_args"]["interval"] == "step"


def test_an_evaluation_of_nothing_is_refused(error, fitted):
    given = ("--config", fitted / "config.yaml", "--ckpt_path", "last")
    for command, flag in (("test", "limit_test"), ("validate", "limit_val"), ("predict", "limit_predict")):
        line = error(2, command, *given, f"--trainer.{flag}_batches", "0")
        assert line == f"lit-rl {command} has nothing to play: trainer.{flag}_batches is 0"
