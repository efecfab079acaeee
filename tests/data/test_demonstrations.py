from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lit_rl import SAC, ReplayDataModule, metrics
from lit_rl.data.demonstrations import FORMAT, read_demonstrations, write_demonstrations
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.data.test_replay import Keep, replay
from tests.toys import fit

FLAT = EnvSpec("Flat", LeafSpec([3]), ActionSpec("box", [2], low=[-1.0, 0.0], high=[1.0, 10.0]))
DICT = EnvSpec(
    "Dict",
    {"a/b": LeafSpec([2]), "image": LeafSpec([4, 4], dtype="uint8"), "deep": {"c": LeafSpec([], "float64")}},
    FLAT.action,
)


def made(spec: EnvSpec, num_steps: int = 5, num_envs: int = 2) -> dict[str, Any]:
    """Transitions of an environment, with episodes of three steps."""

    def leaf(of: Any) -> Any:
        if isinstance(of, dict):
            return {key: leaf(value) for key, value in of.items()}
        values = torch.rand(num_steps, num_envs, *of.shape) * 9
        return values.to(torch.uint8) if of.dtype == "uint8" else values

    ends = (torch.arange(num_steps) % 3 == 2).unsqueeze(1).expand(-1, num_envs)
    return {
        "obs": leaf(spec.observation),
        "action": torch.rand(num_steps, num_envs, 2),
        "reward": torch.randn(num_steps, num_envs),
        "terminated": ends.clone(),
        "truncated": torch.zeros_like(ends),
        "next_obs": leaf(spec.observation),
        "valid": torch.ones_like(ends),
    }


@pytest.mark.parametrize("spec", [FLAT, DICT])
def test_what_was_written_is_read(tmp_path: Path, spec: EnvSpec):
    transitions = made(spec)
    assert write_demonstrations(tmp_path / "d.safetensors", transitions) == 10
    state = read_demonstrations(str(tmp_path / "d.safetensors"), spec).get_state()
    assert torch.equal(state["fields"]["action"], transitions["action"])
    if spec is DICT:
        assert torch.equal(state["fields"]["next_obs/a~1b"], transitions["next_obs"]["a/b"])
        assert state["fields"]["obs/image"].dtype == torch.uint8
    assert [path.name for path in tmp_path.iterdir()] == ["d.safetensors"]


def test_minibatches_hold_their_share_and_windows_of_n_steps(tmp_path: Path):
    """Rewards of 100 are those shown; two steps of them, but for the last one of an episode."""
    shown = made(FLAT) | {"reward": torch.full((5, 2), 100.0)}
    shown["action"][..., 1] = 0.5
    write_demonstrations(tmp_path / "d", shown)
    module = Keep()
    data = replay(demonstrations=str(tmp_path / "d"), demonstration_share=0.25, n_step=2, updates_per_step=4)
    logger = fit(module, data)
    for batch in module.batches:
        is_shown = batch["reward"] >= 100
        assert is_shown.shape == (48, 8)
        assert (is_shown.sum(1) == 2).all()
        assert batch["reward"][is_shown].unique().tolist() == [100.0, pytest.approx(100 + 0.99 * 100)]
        assert torch.isin(batch["obs"][is_shown], shown["obs"]).all()
    assert logger.column(metrics.DEMONSTRATION_SHARE) == [0.25, 0.25]
    assert len(data.ring) == 24  # those shown are in no ring


def test_without_demonstrations_nothing_is_logged():
    logger = fit(Keep(), replay())
    assert metrics.DEMONSTRATION_SHARE not in logger.rows[-1][1]


def tampered(path: Path, **arrays: Any) -> None:
    """Write a file in which some arrays are others, or None to leave them out."""
    write_demonstrations(path, made(FLAT))
    from safetensors.torch import load_file

    content = load_file(path) | arrays
    path.unlink()
    save_file({k: v for k, v in content.items() if v is not None}, path, metadata={"format": FORMAT})


NAN = torch.randn(5, 2)
NAN[3, 1] = torch.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"obs": torch.zeros(5, 2, 4)}, r"has obs of shape \(5, 2, 4\) .* expected \(5, 2, 3\)"),
        ({"reward": torch.zeros(4, 2)}, r"has reward of shape \(4, 2\)"),
        ({"obs": torch.zeros(5, 2, 3).double()}, "and torch.float64, expected .* and torch.float32 f"),
        ({"reward": NAN}, "holds numbers in reward that are not finite"),
        ({"next_obs": None}, "lacks next_obs, which transitions of Flat have"),
        ({"more": torch.zeros(1)}, "holds more, which transitions of Flat do not have"),
        ({"valid": torch.zeros(5, 2, dtype=torch.bool)}, "holds no transition"),
        ({"valid": torch.zeros(0, 2, dtype=torch.bool)}, r"holds no transition: its arrays begin with \(0"),
        ({"action": torch.full((5, 2, 2), 2.0)}, "holds actions from 2 to 2, outside the bounds of Flat"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(tmp_path: Path, arrays: dict[str, Any], message: str):
    tampered(tmp_path / "d", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        read_demonstrations(str(tmp_path / "d"), FLAT)
    assert "\n" not in str(error.value)


def test_what_is_no_such_file_is_refused_in_one_line(tmp_path: Path):
    whole = tmp_path / "whole"
    write_demonstrations(whole, made(FLAT))
    (tmp_path / "torn").write_bytes(whole.read_bytes()[:-7])
    (tmp_path / "empty").write_bytes(b"")
    save_file({"obs": torch.zeros(2)}, tmp_path / "other")
    os.mkfifo(tmp_path / "fifo")
    for name, message in (
        ("torn", "cannot be read as safetensors"),
        ("empty", "cannot be read as safetensors"),
        ("other", "has the format 'None', expected 'lit_rl demonstrations 1'"),
        ("fifo", "is no regular file"),
        (".", "is no regular file"),
        ("none", "does not exist; `lit-rl predict` writes one"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            read_demonstrations(str(tmp_path / name), FLAT)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"demonstration_share": 0.5}, "demonstration_share = 0.5 needs a file: give demonstrations"),
        (
            {"demonstrations": "d", "demonstration_share": 0.3},
            r"whole transitions, got 8 \* 0.3 = 2.4; demonstration_share = 2 / 8 would be",
        ),
        ({"demonstrations": "d", "demonstration_share": 1.0}, "expected 0 < demonstration_share < 1"),
    ],
)
def test_shares_that_cannot_be(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        replay(**arguments)


def test_a_file_that_is_missing_is_refused_before_anything_is_played(tmp_path: Path):
    data = ReplayDataModule("Pendulum-v1", demonstrations=str(tmp_path / "d"))
    with pytest.raises(ValueError, match="does not exist"):
        fit(SAC(hidden=(4,)), data)
