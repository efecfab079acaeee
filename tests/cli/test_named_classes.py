"""Classes of a user in checkpoints and configurations: the configuration is code, the checkpoint is data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from lit_rl.nets import Flatten
from lit_rl.types import EnvSpec
from tests.cli.conftest import the_run


class Doubling(nn.Module):
    def __init__(self, spec: EnvSpec, by: float = 2.0) -> None:
        super().__init__()
        self.flatten, self.by = Flatten(spec), by
        self.out_features = self.flatten.out_features

    def forward(self, obs: Any) -> torch.Tensor:
        return self.by * self.flatten(obs)


NAME = f"{__name__}.Doubling"


def best(run: Path) -> Path:
    return run / "checkpoints" / "best.ckpt"


@pytest.fixture
def doubled(run, cwd: Path) -> Path:
    """A run whose encoder is the user's own."""
    assert run("fit", "--config", "tiny.yaml", "--model.encoder", NAME, "--model.encoder.by", "3") == 0
    return the_run(cwd).relative_to(cwd)


def test_what_the_configuration_names_may_stand_in_the_checkpoint(run, error, doubled: Path, capsys):
    assert run("test", "--config", doubled / "config.yaml", "--ckpt_path", "best") == 0
    message = error(2, "test", "--config", "tiny.yaml", "--ckpt_path", best(doubled))
    assert message == (
        f"checkpoint {best(doubled)} names {NAME} as encoder; a checkpoint is data, and may name nothing "
        "but classes of lit_rl and those that you name: if it is yours, give --config of its run, "
        "or --model.encoder"
    )
    layer = {"model": {"class_path": "PPO", "init_args": {"encoder": {"class_path": NAME}}}}
    Path("layer.yaml").write_text(yaml.safe_dump(layer))
    assert run("test", "--config", "tiny.yaml", "--config", "layer.yaml", "--ckpt_path", best(doubled)) == 0
    assert "'by': 3.0" in capsys.readouterr().err  # of the checkpoint replaces 2.0 of the configuration
    assert run("test", "--config", "tiny.yaml", "--model.encoder", NAME, "--ckpt_path", best(doubled)) == 0


def test_export_names_it_by_an_option(run, error, doubled: Path, capsys):
    message = error(1, "export", best(doubled), "--out", "a.pt2")
    assert f"names {NAME} as encoder" in message
    assert message.endswith("if it is yours, give its name by --class")
    assert run("export", best(doubled), "--out", "a.pt2", "--class", NAME) == 0
    assert Path("a.pt2").is_file()
    message = error(1, "export", best(doubled), "--out", "b.pt2", "--class", "nowhere.Encoder")
    assert message.startswith("--class.class_path 'nowhere.Encoder' cannot be imported")


def test_an_encoder_of_lit_rl_needs_no_word(run, cwd: Path, capsys):
    encoder = "lit_rl.encoders.perceptron.PerceptronEncoder"
    assert (
        run("fit", "--config", "tiny.yaml", "--model.encoder", encoder, "--model.encoder.hidden", "[4]") == 0
    )
    capsys.readouterr()
    assert run("test", "--config", "tiny.yaml", "--ckpt_path", best(the_run(cwd))) == 0
    assert "'hidden': [4]" in capsys.readouterr().err
    assert run("export", best(the_run(cwd)), "--out", "a.pt2") == 0


SYSTEM = {"class_path": "os.system", "init_args": {"command": "true"}}
CONFIGURED: list[tuple[str, Any, str]] = [
    ("model.init_args.encoder", SYSTEM, "PPO: encoder = 0, expected a class or function that makes a Module"),
    ("model.init_args.encoder", "os.system", "model.encoder: "),
    (
        "model.init_args.encoder",
        "torch.nn.Flatten",
        "encoder made a Flatten with out_features = None, expected",
    ),
    ("model", SYSTEM, "model: "),
    ("data", SYSTEM, "data: "),
    ("data.init_args.env", SYSTEM, "env='system' must return a gymnasium.Env, got builtins.int"),
    (
        "data.init_args.wrappers",
        [{"class_path": "builtins.repr"}],
        "wrappers: repr must return a gymnasium.Env",
    ),
    ("trainer.callbacks", [SYSTEM], "trainer.callbacks: "),
    ("trainer.logger", SYSTEM, "trainer.logger: "),
]
"""What does not make what its argument expects, although a configuration may name anything."""


@pytest.mark.parametrize(("key", "value", "message"), CONFIGURED)
def test_what_is_configured_must_be_what_the_argument_expects(
    run, cwd: Path, capsys, key: str, value: Any, message: str
):
    content = part = yaml.safe_load(Path("tiny.yaml").read_text())
    *sections, last = key.split(".")
    for section in sections:
        part = part[section]
    part[last] = value
    (cwd / "bad.yaml").write_text(yaml.safe_dump(content))
    assert run("fit", "--config", "bad.yaml") != 0
    written = capsys.readouterr().err
    (line,) = [line for line in written.splitlines() if line.startswith("lit-rl: error: ")]
    assert message in line
    assert "Traceback" not in written
    assert not (cwd / "runs").exists()
