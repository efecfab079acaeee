"""The files in ``models/`` of synchronous HMASD training, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.cli.conftest import Run, the_run
from tests.test_resume import assert_identical, learned

NAME = "hmasd_sync_enhanced_tracking"
HMASD = """\
# HMASD within a second
model:
  class_path: HMASD
  init_args: {hidden: [8], embedding: 8, gru: 4, chunk_length: 4, k: 4, update_epochs: 1}
data:
  class_path: RolloutDataModule
  init_args:
    env: {class_path: lit_rl.envs.alice_bob.AliceAndBob}
    num_envs: 4
    rollout_steps: 8
    rollouts_per_epoch: 2
    eval_episodes: 2
trainer: {accelerator: cpu, enable_progress_bar: false}
budget: {total_env_steps: 128}
"""


@pytest.fixture
def fitted(run, cwd: Path) -> Path:
    """A finished run with models every 50 env steps: these are passed after 64 and 128."""
    return fit(run, cwd, NAME)


def fit(run: Run, cwd: Path, models: str) -> Path:
    (cwd / "hmasd.yaml").write_text(HMASD)
    options = ["--checkpoint.models", models, "--checkpoint.every_env_steps", "50", "--seed_everything", "7"]
    assert run("fit", "--config", "hmasd.yaml", *options) == 0
    return the_run(cwd, "hmasd").relative_to(cwd)


def load(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def test_names_are_those_of_the_documents(fitted):
    names = {path.name for path in (fitted / "models").iterdir()}
    assert names == {f"{NAME}.pt", f"{NAME}_final.pt", f"{NAME}_50.pt", f"{NAME}_100.pt"}
    saved = yaml.safe_load((fitted / "config.yaml").read_text())["checkpoint"]
    assert saved["models"] == NAME
    counters = load(fitted / "models" / f"{NAME}_100.pt")["state_dict"]["_extra_state"]
    assert counters["env_steps"] == 128


@pytest.mark.parametrize("model", [f"{NAME}.pt", f"{NAME}_final.pt", f"{NAME}_50.pt"])
def test_evaluation_of_a_model(run, fitted, capsys, model):
    path = fitted / "models" / model
    assert run("test", "--config", fitted / "config.yaml", "--ckpt_path", path) == 0
    printed = capsys.readouterr().out
    assert f"checkpoint {path}" in printed
    assert f"written {fitted}/eval.json" in printed


def test_resume_from_a_model_goes_on_in_its_run_as_from_the_checkpoint(run, fitted, cwd):
    whole = learned(load(fitted / "checkpoints" / "last.ckpt"))
    arguments = ["fit", "--config", fitted / "config.yaml", "--ckpt_path"]
    assert run(*arguments, fitted / "checkpoints" / "step_64.ckpt", "--run_dir", "other") == 0
    assert run(*arguments, fitted / "models" / f"{NAME}_50.pt") == 0
    assert the_run(cwd, "hmasd").relative_to(cwd) == fitted
    assert_identical(learned(load(cwd / "other" / "checkpoints" / "last.ckpt")), whole)
    assert_identical(learned(load(fitted / "checkpoints" / "last.ckpt")), whole)


def test_export_of_a_model(run, fitted, cwd):
    assert run("export", fitted / "models" / f"{NAME}.pt", "--out", "policy.pt2") == 0
    assert (cwd / "policy.pt2").is_file()


def test_missing_model_names_those_there(error, fitted):
    path = fitted / "models" / f"{NAME}_320000.pt"
    message = error(2, "test", "--config", fitted / "config.yaml", "--ckpt_path", path)
    there = ", ".join(sorted([f"{NAME}.pt", f"{NAME}_100.pt", f"{NAME}_50.pt", f"{NAME}_final.pt"]))
    assert message == f"checkpoint {path} does not exist; {fitted}/models holds {there}"


def test_the_other_ending_of_the_documents(run, error, cwd, capsys):
    """The quick start calls its models .pth; they are found, evaluated and resumed from like the others."""
    fitted = fit(run, cwd, "hmasd_sync_enhanced.pth")
    names = [f"hmasd_sync_enhanced{suffix}.pth" for suffix in ("", "_100", "_50", "_final")]
    assert sorted(path.name for path in (fitted / "models").iterdir()) == names
    whole = learned(load(fitted / "checkpoints" / "last.ckpt"))
    model = fitted / "models" / "hmasd_sync_enhanced_50.pth"
    assert run("test", "--config", fitted / "config.yaml", "--ckpt_path", model) == 0
    assert f"checkpoint {model}" in capsys.readouterr().out
    assert run("fit", "--config", fitted / "config.yaml", "--ckpt_path", model) == 0
    assert_identical(learned(load(fitted / "checkpoints" / "last.ckpt")), whole)
    missing = fitted / "models" / "hmasd_sync_enhanced_320000.pth"
    message = error(2, "test", "--config", fitted / "config.yaml", "--ckpt_path", missing)
    assert message == f"checkpoint {missing} does not exist; {fitted}/models holds {', '.join(names)}"
