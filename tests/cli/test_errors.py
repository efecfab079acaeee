"""Each bad input and the line that it prints."""

import pytest
import torch

from lit_rl.algos.module import RLModule
from lit_rl.cli.command import SHORT_NAMES
from lit_rl.cli.errors import CommandError, Stopped, describe, exit_code
from lit_rl.cli.parser import strip_frame
from lit_rl.seeds import derive

LEARNERS = ", ".join(sorted(kind.__name__ for kind in SHORT_NAMES if issubclass(kind, RLModule)))

COMMAND_LINE = [
    (["--model.clpi", "0.1"], "model.clpi: PPO has no argument 'clpi'; did you mean clip?"),
    (["--model.clip", "abc"], "model.clip: expected float, got 'abc'"),
    (["--model.init_args.clip", "abc"], "model.clip: expected float, got 'abc'"),
    (
        ["--model.activation", "tan"],
        "model.activation: expected one of 'tanh', 'relu', 'elu', 'silu', got 'tan'",
    ),
    (["--model.encoder", "nowhere.Encoder"], "No module named 'nowhere'"),
    (
        ["--model", "PPOO"],
        f"model: unknown class 'PPOO'; did you mean PPO?; known: {LEARNERS}; others as module.Class",
    ),
    (
        ["--data", "Foo"],
        "data: unknown class 'Foo'; known: MorphologyDataModule, RemoteReplayDataModule, ReplayDataModule, ",
    ),
    (["--model", "torch.nn.Linear"], "model: Import path does not correspond to a subclass of RLModule"),
    (["--model", "lit_rl.Foo"], "model: module 'lit_rl' has no attribute 'Foo'"),
    (["--trainer.callbacks+=Foo"], "trainer.callbacks: unknown class 'Foo'; known: EnvStepBudget, EnvSteps"),
    (["--trainer.max_epoch", "3"], "unknown key '--trainer.max_epoch'; did you mean --trainer.max_epochs?"),
    (["--trainer.max_epoch=3"], "unknown key '--trainer.max_epoch'; did you mean --trainer.max_epochs?"),
    (["--trainer.max_epochs", "x"], "trainer.max_epochs: expected int, got 'x'"),
    (["--trainer.accelerator", "cpuu"], "You selected an invalid accelerator name: `accelerator='cpuu'`."),
    (
        ["--data.num_env", "3"],
        "data.num_env: RolloutDataModule has no argument 'num_env'; did you mean num_envs?",
    ),
    (["--data.num_envs", "0"], "RolloutDataModule: num_envs = 0, expected 1 <= num_envs"),
    (["--data.env", "CartPol-v1"], "CartPol-v1"),
    (["--budgt.total", "3"], "unknown key '--budgt.total'; did you mean --budget?"),
    (["--budget.total_env_steps", "x"], "budget.total_env_steps: expected int, got 'x'"),
    (
        ["--budget.total_env_steps", "-5"],
        "EnvStepBudget: total_env_steps = -5, expected total_",
    ),
    (["--checkpoint.mode", "most"], "checkpoint.mode: expected one of 'max', 'min', got 'most'"),
    (["--seed_everything", "x"], "seed_everything: expected bool or int, got 'x'"),
    (["--nonsense", "3"], "unknown key '--nonsense'"),
    (["nonsense"], "unexpected 'nonsense'"),
    (["--model.clip"], "--model: expected a value, got none"),
    (["--config"], "-c/--config: expected a value, got none"),
    (["--config", "ppo_cartpol"], "--config ppo_cartpol: no such file; did you mean ppo_cartpole?"),
    (
        ["--ckpt_path", "last"],
        "--ckpt_path last expects --config RUN/config.yaml of a run with checkpoints, got tiny",
    ),
    (
        ["--ckpt_path", "nowhere/a.ckpt"],
        "checkpoint nowhere/a.ckpt does not exist; nowhere holds no checkpoint",
    ),
    (
        ["--run_dir", "."],
        "--run_dir . is not empty: give another one, or go on with that run, as it is, by "
        "--config ./config.yaml --ckpt_path last",
    ),
    (
        ["--run_dir", "tiny.yaml/a"],
        "--run_dir tiny.yaml/a cannot be made: Not a directory; choose one by --run_dir",
    ),
]


@pytest.mark.parametrize(("args", "line"), COMMAND_LINE, ids=[" ".join(args) for args, _ in COMMAND_LINE])
def test_command_line(error, cwd, args, line):
    code = 1 if args[0] in ("--data.env",) or line.endswith("--run_dir") else 2
    assert line in error(code, "fit", "--config", "tiny.yaml", *args)
    assert [path.name for path in cwd.iterdir()] == ["tiny.yaml"]


CONFIGURATION = [
    (
        "model: {class_path: PPO, init_args: {clpi: 1}}",
        "model.clpi: PPO has no argument 'clpi'; did you mean clip?",
    ),
    ("model: {class_path: PPO, init_args: {clip: [1]}}", "model.clip: expected float, got '[1]'"),
    ("modle: {class_path: PPO}", "unknown key 'modle.class_path'; did you mean model?"),
    ("trainer: {max_epoch: 3}", "unknown key 'trainer.max_epoch'; did you mean trainer.max_epochs?"),
    ("model: [", "bad.yaml is no valid YAML: "),
    ("- model", "bad.yaml expected keys such as model, data and budget, got a list"),
    ("", "bad.yaml expected keys such as model, data and budget, got a NoneType"),
]


@pytest.mark.parametrize(("text", "line"), CONFIGURATION)
def test_configuration(error, cwd, text, line):
    (cwd / "bad.yaml").write_text(text)
    assert line in error(2, "fit", "--config", "tiny.yaml", "--config", "bad.yaml")
    assert not (cwd / "runs").exists()


def test_missing_keys(error):
    message = error(2, "fit", "--model", "PPO")
    assert message.startswith(
        "missing --budget.total_env_steps, --data: give it, or a configuration (--config NAME, "
    )


def test_a_missing_argument_of_a_class(error):
    message = error(
        2, "fit", "--model", "PPO", "--data", "RolloutDataModule", "--budget.total_env_steps", "1"
    )
    assert message.startswith("missing --data.env: give it, or a configuration (--config NAME, ")


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_evaluations_need_a_checkpoint(error, command):
    message = error(2, command, "--config", "tiny.yaml")
    assert message == f"lit-rl {command} expects --ckpt_path last, best or a path, got none"


@pytest.mark.parametrize("content", [b"", b"half a checkp", b"PK\x03\x04 half a zip file"])
def test_damaged_checkpoint(error, cwd, content):
    (cwd / "a.ckpt").write_bytes(content)
    message = error(1, "fit", "--config", "tiny.yaml", "--ckpt_path", "a.ckpt")
    assert (
        message
        == "checkpoint a.ckpt cannot be read: it is truncated, damaged or no checkpoint; take another one"
    )
    assert not (cwd / "runs").exists()


def test_checkpoint_of_another_program(error, cwd):
    torch.save({"state_dict": {}}, cwd / "a.ckpt")
    message = error(1, "fit", "--config", "tiny.yaml", "--ckpt_path", "a.ckpt")
    assert message == "checkpoint a.ckpt was not written by lit_rl: it has no entry 'lit_rl'"


def test_video_format(error, cwd, fitted):
    args = ["test", "--config", fitted / "config.yaml", "--ckpt_path", "last"]
    assert (
        error(2, *args, "--video", "a.avi") == "--video expects a path that ends in .gif or .mp4, got a.avi"
    )


def test_export_arguments(error):
    assert error(2, "export", "a.ckpt").startswith("expected lit-rl export CHECKPOINT --out policy.pt2 (a")
    assert error(2, "export", "a.ckpt", "--out", "a.pt2") == "checkpoint a.ckpt does not exist"
    assert error(2, "export", "tiny.yaml", "--out", "x/a.pt2") == "--out x/a.pt2: the folder x does not exist"


@pytest.mark.parametrize(
    ("raised", "line", "code"),
    [
        (CommandError("all  said\nhere", 1), "all said here", 1),
        (ValueError("two\nlines"), "two lines", 1),
        (OSError(28, "No space left on device", "a.ckpt"), "No space left on device: a.ckpt", 1),
        (KeyError("x"), "KeyError: 'x' (run again with --debug to see where)", 1),
        (ValueError(), "ValueError (--debug shows where)", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (Stopped(15), "stopped by SIGTERM", 143),
    ],
)
def test_exceptions_on_one_line(raised, line, code):
    assert describe(raised) == line
    assert exit_code(raised) == code


def test_strip_frame_leaves_the_mistake():
    message = (
        'Parser key "model":\n  Does not validate against any of the Union subtypes\n  Subtypes: [A, B]\n'
        "  Errors:\n    - what is wrong\n    - Expected a <class 'NoneType'>\n"
        "  Given value type: <class 'str'>\n"
    )
    assert strip_frame(message) == 'Parser key "model": what is wrong'


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 7.28 TiB for an array"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        ValueError("Maximum allowed dimension exceeded"),
    ],
)
def test_a_lack_of_memory_names_what_to_lower(error):
    line = describe(error)
    assert line.startswith("there is not enough memory for what was asked (")
    assert "lower num_envs, rollout_steps, capacity, batch_size or the widths" in line
    assert "--debug" not in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("{critic_encoder: 0}", "model.critic_encoder: expected import path or a subclass spec, got '0'"),
        ("{clip: " + "x" * 999 + "}", "model.clip: expected float, got 'xxxxx"),
    ],
)
def test_a_value_of_any_size_is_one_short_line(error, cwd, arguments, line):
    (cwd / "bad.yaml").write_text(f"model: {{class_path: PPO, init_args: {arguments}}}\n")
    message = error(2, "fit", "--config", "tiny.yaml", "--config", "bad.yaml")
    assert message.startswith(line)
    assert len(message) < 200


LATE = ["fit", "--config", "tiny.yaml", "--seed_everything", "12", "--budget.total_env_steps", "64"]


def test_an_environment_that_goes_wrong_after_its_trial(error, monkeypatch):
    monkeypatch.setattr("tests.late_toys.SEED", derive(12, "training"))
    args = [*LATE, "--data.env", "tests.late_toys:Late", "--data.env_kwargs.how"]
    fault = "Late (environment 0): observation['x'] of step 20 has shape (3,), its space has (2,)"
    assert error(1, *args, "shape") == fault
    assert error(1, *args, "exit").startswith("Late: the environment called sys.exit(0); end an episode by")


def test_an_exit_of_something_else_is_a_failure(error):
    message = error(1, *LATE, "--trainer.callbacks+=tests.late_toys.Exits")
    assert message.startswith("sys.exit() was called in on_train_start, line ")
    assert message.endswith("late_toys.py, which ends no run; raise an error there")
