"""``lit-rl export --bundle`` and ``lit-rl verify-policy`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from lit_rl.bundle.contract import CONTRACT, ONNX

OWN = """\
import gymnasium

class Pole(gymnasium.Wrapper):
    def __init__(self):
        super().__init__(gymnasium.make("CartPole-v1", disable_env_checker=True))
"""


def test_a_run_becomes_a_bundle_that_proves_itself(run, error, fitted: Path, cwd: Path, capsys):
    assert run("export", fitted, "--bundle", "policy") == 0
    assert "bundle written to policy: return " in capsys.readouterr().out
    names = sorted(path.name for path in (cwd / "policy").iterdir())
    assert names == ["contract.json", "pairs.npz", "policy.onnx", "policy.pt2"]
    assert run("verify-policy", "policy", "--episodes", "4") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pairs: 32 repeated, largest error ")
    assert lines[1] == "environment: CartPole-v1, as the contract says"
    assert lines[2].startswith("pass  as in training: return ")
    assert lines[3] == "1 of 1 settings passed"

    contract = json.loads((cwd / "policy" / CONTRACT).read_text())
    contract["measured"]["return_mean"] = 1e6
    (cwd / "policy" / CONTRACT).write_text(json.dumps(contract))
    message = error(1, "verify-policy", "policy", "--episodes", "4")
    assert message == (
        "0 of 1 settings passed: do not carry this policy to a machine; train it on what failed"
    )
    (cwd / "policy" / ONNX).write_bytes(b"another")
    assert "is not the file that was exported" in error(1, "verify-policy", "policy")
    assert "policy exists; give another folder" in error(1, "export", fitted, "--bundle", "policy")
    assert run("export", fitted, "--bundle", "policy", "--overwrite") == 0
    assert run("verify-policy", "policy", "--episodes", "4") == 0


def test_an_environment_of_a_user_is_named_by_a_configuration(run, error, cwd: Path):
    """A checkpoint and a bundle are data: what they name is not imported."""
    (cwd / "own_pole.py").write_text(OWN)
    text = (cwd / "tiny.yaml").read_text().replace("env: CartPole-v1", "env: {class_path: own_pole.Pole}")
    (cwd / "own.yaml").write_text(text)
    assert run("fit", "--config", "own.yaml", "--run_dir", "own") == 0
    message = error(2, "export", "own", "--bundle", "policy")
    assert message.startswith(
        "checkpoint own/checkpoints/best.ckpt names the environment {'class_path': 'own_p"
    )
    assert message.endswith("give --config of its run, which names what is imported")
    assert run("export", "own", "--bundle", "policy", "--config", "own.yaml") == 0
    assert "bundle policy names the environment" in error(2, "verify-policy", "policy")
    assert run("verify-policy", "policy", "--config", "own.yaml", "--episodes", "4") == 0


def test_arguments(error, fitted: Path, cwd: Path):
    assert error(2, "export", fitted).startswith("expected lit-rl export CHECKPOINT --out policy.pt2")
    assert error(2, "export", fitted, "--out", "a.pt2", "--overwrite") == (
        "--config and --overwrite are for --bundle DIR"
    )
    assert error(2, "export", ".", "--bundle", "b") == (
        ". is a folder without checkpoints/best.ckpt or checkpoints/last.ckpt"
    )
    assert error(1, "verify-policy", "nothing").startswith("nothing is no folder; expected one that lit-rl")
    assert "must be a whole number, at least 1, got '0'" in error(2, "verify-policy", "b", "--episodes", "0")
    assert not (cwd / "b").exists()
