"""What a fit begins with: a run that goes on, a checkpoint in a new run, or weights alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_rl.files import write_json
from lit_rl.report.process import create_time
from tests.cli.conftest import Run
from tests.cli.test_command import read_steps
from tests.test_resume import assert_identical, learned

SWITCH = "sutton_barto_reward"
"""Of CartPole: the reward is -1 at the fall and 0 before, in place of 1 at each step."""

OTHER_REWARD = [f"--data.env_kwargs.{SWITCH}", "true"]


def files(directory: Path) -> dict[str, bytes]:
    """All that a run directory holds."""
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def runs(name: str = "tiny") -> list[Path]:
    """Run directories of a configuration, the oldest first."""
    found = [path for path in (Path("runs") / name).iterdir() if not path.is_symlink()]
    return sorted(found, key=lambda path: (path / "config.yaml").stat().st_mtime_ns)


def saved_config(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())


def state(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    """Lines on stderr since the last call."""
    capsys.readouterr()

    def lines() -> list[str]:
        return capsys.readouterr().err.splitlines()

    return lines


# A checkpoint in a new run


def test_another_configuration_begins_a_new_run(run: Run, fitted: Path, log: Callable[[], list[str]]):
    before, last = files(fitted), fitted / "checkpoints" / "last.ckpt"
    log()
    assert run("fit", "--config", "tiny.yaml", "--ckpt_path", last, "--budget.total_env_steps", "192") == 0
    assert files(fitted) == before
    first, second = runs()
    assert first == fitted
    assert read_steps(second) == [160, 192]
    said = log()
    assert f"a new run begins with {last}; --config {fitted}/config.yaml goes on in {fitted}" in said
    assert not [line for line in said if " replaces " in line]
    comment = f"# It began with all of {last} (--ckpt_path)"
    assert (second / "config.yaml").read_text().splitlines()[1] == comment
    # it is the run that would have gone on, and goes on itself
    assert (
        run(
            "fit",
            "--config",
            fitted / "config.yaml",
            "--ckpt_path",
            "last",
            "--budget.total_env_steps",
            "192",
        )
        == 0
    )
    assert_identical(learned(state(fitted)), learned(state(second)))
    again = ["--config", second / "config.yaml", "--ckpt_path", "last", "--budget.total_env_steps", "224"]
    assert run("fit", *again) == 0
    assert read_steps(second) == [160, 192, 224]
    assert (second / "config.yaml").read_text().splitlines()[1] == comment
    assert len(runs()) == 2


@pytest.mark.parametrize("configuration", ["tiny.yaml", "own"])
def test_another_environment_is_listed_and_begins_a_new_run(
    run: Run, fitted: Path, log: Callable[[], list[str]], configuration: str
):
    before, last = files(fitted), fitted / "checkpoints" / "last.ckpt"
    log()
    config = fitted / "config.yaml" if configuration == "own" else configuration
    more = ["--budget.total_env_steps", "192", "--data.eval_episodes", "3", *OTHER_REWARD]
    assert run("fit", "--config", config, "--ckpt_path", last, *more) == 0
    assert files(fitted) == before
    _, second = runs()
    assert saved_config(second)["data"]["init_args"]["env_kwargs"] == {SWITCH: True}
    assert read_steps(second) == [160, 192]
    said = log()
    listed = [line for line in said if " replaces " in line]
    assert listed == [
        f"data.env_kwargs.{SWITCH} = True replaces None of the checkpoint",
        "data.eval_episodes = 3 replaces 2 of the checkpoint",
    ]
    (begins,) = [line for line in said if line.startswith("a new run begins with")]
    if configuration == "own":
        assert begins == f"a new run begins with {last}: its environment is not that of {fitted}"
    (resumed,) = [line for line in said if line.startswith("resumed: ")]
    why = f"the environment is not that of the checkpoint (env_kwargs.{SWITCH}), so episodes start anew"
    assert resumed.startswith(f"resumed: {why}")


def test_differences_are_listed_before_anything_is_written(
    run: Run, fitted: Path, log: Callable[[], list[str]]
):
    before = files(fitted)
    log()
    more = ["--data.num_envs", "4", "--run_dir", fitted]
    assert run("fit", "--config", fitted / "config.yaml", "--ckpt_path", "last", *OTHER_REWARD, *more) == 2
    said = log()
    assert said[:2] == [
        "data.num_envs = 4 replaces 2 of the checkpoint",
        f"data.env_kwargs.{SWITCH} = True replaces None of the checkpoint",
    ]
    assert said[-1] == (
        f"lit-rl: error: --run_dir {fitted} is not empty: give another one, or go on with that run, as it "
        f"is, by --config {fitted}/config.yaml --ckpt_path last"
    )
    assert files(fitted) == before
    assert runs() == [fitted]


def test_other_arguments_of_the_data_go_on_in_the_run(run: Run, fitted: Path, log: Callable[[], list[str]]):
    more = ["--data.num_envs", "4", "--budget.total_env_steps", "192"]
    assert run("fit", "--config", fitted / "config.yaml", "--ckpt_path", "last", *more) == 0
    assert runs() == [fitted]
    assert read_steps(fitted) == [32, 64, 96, 128, 192]
    said = log()
    assert "data.num_envs = 4 replaces 2 of the checkpoint" in said
    anew = "so episodes start anew; random generators continue"
    assert f"resumed: the checkpoint has num_envs = 2 and this run 4, {anew}" in said


def test_an_older_checkpoint_is_compared_with_the_configuration_of_its_run(
    run: Run, fitted: Path, log: Callable[[], list[str]]
):
    last = fitted / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    del content["RolloutDataModule"]["made_with"]
    torch.save(content, last)
    log()
    more = ["--budget.total_env_steps", "160"]
    assert run("fit", "--config", fitted / "config.yaml", "--ckpt_path", "last", *more, *OTHER_REWARD) == 0
    assert f"data.env_kwargs.{SWITCH} = True replaces None of the checkpoint" in log()
    assert len(runs()) == 2

    Path("alone.ckpt").write_bytes(last.read_bytes())
    assert run("fit", "--config", "tiny.yaml", "--ckpt_path", "alone.ckpt", *more) == 0
    assert "checkpoint alone.ckpt does not say on which data it was trained" in log()


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (["--model.hidden", "[4]"], 1, "does not fit the networks configured"),
        (["--data.vectorization", "sync"], 1, "the state is of another vectorization"),
    ],
)
def test_a_run_that_cannot_go_on_stays_as_it_was(
    error: Callable[..., str], fitted: Path, wrong: list[str], code: int, message: str
):
    before = files(fitted)
    more = ["--budget.total_env_steps", "224", *wrong]
    assert message in error(code, "fit", "--config", fitted / "config.yaml", "--ckpt_path", "last", *more)
    assert files(fitted) == before


# Two processes


def test_a_run_that_is_still_trained_is_not_resumed(error: Callable[..., str], fitted: Path):
    pid = os.getppid()
    process = {"pid": pid, "host": socket.gethostname(), "create_time": create_time(pid), "state": "running"}
    write_json(fitted / "process.json", process)
    before = files(fitted)
    resume = ["--config", fitted / "config.yaml", "--ckpt_path", "last", "--budget.total_env_steps", "224"]
    message = error(1, "fit", *resume)
    assert message.startswith(
        f"run {fitted} is still trained by process {pid}, and two would write into the same"
    )
    assert files(fitted) == before


# Weights alone


def test_weights_begin_a_new_run(run: Run, fitted: Path, log: Callable[[], list[str]]):
    before, best = files(fitted), fitted / "checkpoints" / "best.ckpt"
    begin = ["--config", fitted / "config.yaml", "--init_from", "best", "--model.learning_rate", "0.01"]
    assert run("fit", *begin, *OTHER_REWARD, "--budget.total_env_steps", "64") == 0
    assert files(fitted) == before
    _, second = runs()
    assert read_steps(second) == [32, 64]
    (line,) = [line for line in log() if line.startswith("weights of ")]
    assert line.startswith(f"weights of {best} (")
    assert line.endswith("tensors taken; counters start at 0, optimizers afresh")
    comment = f"# It began with the weights and normalizers of {best} (--init_from)"
    assert (second / "config.yaml").read_text().splitlines()[1] == comment
    assert "init_from" not in saved_config(second)
    assert state(second)["state_dict"]["_extra_state"]["env_steps"] == 64
    # and can be resumed by its own configuration
    resume = ["--config", second / "config.yaml", "--ckpt_path", "last", "--budget.total_env_steps", "96"]
    assert run("fit", *resume) == 0
    assert read_steps(second) == [32, 64, 96]
    assert (second / "config.yaml").read_text().splitlines()[1] == comment


def test_weights_that_do_not_fit(
    run: Run, error: Callable[..., str], fitted: Path, log: Callable[[], list[str]]
):
    begin = ["fit", "--config", "tiny.yaml", "--init_from", fitted / "checkpoints" / "last.ckpt"]
    message = error(1, *begin, "--model.hidden", "[4]")
    assert message.startswith(
        f"the weights of {fitted}/checkpoints/last.ckpt do not fit this learner: policy."
    )
    assert "policy.network.actor.0.weight is (8, 4) in the checkpoint and (4, 4) here" in message
    assert runs() == [fitted]
    log()
    assert run(*begin, "--model.hidden", "[4]", "--init_from_partial", "true") == 0
    left_out = [line for line in log() if line.startswith("left out: ")]
    assert "left out: policy.network.actor.0.weight is (8, 4) in the checkpoint and (4, 4) here" in left_out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--init_from", "{last}", "--ckpt_path", "{last}"],
            2,
            "--init_from begins a new run with the weights of a checkpoint, --ckpt_path goes on with all of "
            "it: give one of them",
        ),
        (
            ["--init_from_partial", "true"],
            2,
            "--init_from_partial true expects --init_from CHECKPOINT, got none",
        ),
        (
            ["--init_from", "last"],
            2,
            "--init_from last expects --config RUN/config.yaml of a run with checkpoints, got tiny.yaml",
        ),
        (
            ["--init_from", "{run}/checkpoints/lost.ckpt"],
            2,
            "checkpoint {run}/checkpoints/lost.ckpt does not exist; {run}/checkpoints holds best.ckpt, "
            "last.ckpt",
        ),
        (
            ["--init_from", "tiny.yaml"],
            2,
            "tiny.yaml is not a checkpoint of lit_rl, or it is truncated (",
        ),
        (
            [
                *("--init_from", "{last}", "--model", "SAC", "--data", "ReplayDataModule"),
                *("--data.env", "Pendulum-v1"),
            ],
            2,
            "the weights of {last} are those of a lit_rl.PPO, this learner is a lit_rl.SAC; give a "
            "checkpoint of the same class",
        ),
    ],
)
def test_weights_that_are_refused(
    error: Callable[..., str], fitted: Path, arguments: list[str], code: int, message: str
):
    names = {"last": f"{fitted}/checkpoints/last.ckpt", "run": str(fitted)}
    config = [] if "SAC" in arguments else ["--config", "tiny.yaml"]
    given = [argument.format(**names) for argument in arguments]
    got = error(code, "fit", *config, *given, "--budget.total_env_steps", "64")
    assert got.startswith(message.format(**names))
    assert runs() == [fitted]


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_only_a_fit_begins_with_weights(error: Callable[..., str], fitted: Path, command: str):
    arguments = ["--config", fitted / "config.yaml", "--ckpt_path", "last", "--init_from", "last"]
    assert error(2, command, *arguments).startswith("unknown key '--init_from'")
