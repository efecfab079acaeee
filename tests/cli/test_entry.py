import os
import subprocess
import sys

import pytest

import lit_rl
from lit_rl.cli import entry, shipped


def test_help_lists_commands_and_configurations(run, capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    for command in (
        "fit",
        "validate",
        "test",
        "predict",
        "act",
        "async",
        "doctor",
        "export",
        "verify-policy",
        "report",
        "map-elites",
        "status",
        "paper",
        "help",
    ):
        assert f"\n  {command} " in text
    for name, description in shipped.names().items():
        assert f"  {name} " in text
        assert description in text


def test_version(run, capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"lit-rl {lit_rl.__version__}\n"


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_load_neither_torch_nor_lightning(option):
    code = (
        "import sys; from lit_rl.cli import main; main(sys.argv[1:]);"
        "sys.exit(str({'torch', 'lightning', 'numpy', 'yaml'} & {*sys.modules} or ''))"
    )
    done = subprocess.run([sys.executable, "-c", code, option], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
    assert "lit-rl" in done.stdout


@pytest.mark.parametrize(
    ("args", "got"), [((), "nothing"), (("train",), "'train'"), (("--config", "x"), "'--config'")]
)
def test_expects_a_command_first(error, args, got):
    message = error(2, *args)
    assert message.startswith(
        "expected a command (fit, validate, test, predict, act, async, doctor, export, verify-policy, "
        "report, map-elites, status, paper, help) first, "
    )
    assert f"got {got}; see lit-rl --help" in message


@pytest.mark.parametrize("position", [0, 1, 4])
def test_debug_anywhere_shows_the_stack_trace(run, capsys, position):
    args = ["fit", "--config", "nowhere"]
    args.insert(position, "--debug")
    assert run(*args) == 2
    written = capsys.readouterr().err
    assert "Traceback" in written
    assert written.splitlines()[-1].startswith("lit-rl: error: --config nowhere: no such file")


@pytest.mark.parametrize("before", [None, "offline"])
def test_debug_records_nothing_in_wandb_and_leaves_the_environment(run, monkeypatch, before):
    monkeypatch.delenv("WANDB_MODE", raising=False)
    if before is not None:
        monkeypatch.setenv("WANDB_MODE", before)
    seen = []
    monkeypatch.setattr(entry, "_dispatch", lambda argv, debug: seen.append(os.environ.get("WANDB_MODE")))
    assert run("--debug", "act") == run("act") == 0
    assert seen == ["disabled", before]
    assert os.environ.get("WANDB_MODE") == before


def test_stochastic_stands_for_its_key_after_all_configurations(run, monkeypatch):
    asked = []
    monkeypatch.setattr("lit_rl.cli.command.run", asked.append)
    assert run("test", "--stochastic", "--config", "tiny.yaml", "--ckpt_path", "last") == 0
    assert asked == [["test", "--config", "tiny.yaml", "--ckpt_path", "last", "--data.eval_policy", "sample"]]


def test_stochastic_is_refused_where_it_says_nothing(error):
    assert error(2, "fit", "--config", "tiny.yaml", "--stochastic") == (
        "--stochastic is for validate, test and predict, got fit; the evaluations of a training draw actions "
        "with --data.eval_policy sample"
    )
    assert error(2, "test", "--stochastic", "--data.eval_policy", "greedy") == (
        "--stochastic means --data.eval_policy sample: give one of them"
    )
