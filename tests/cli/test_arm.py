"""The planar arm on the command line: bad settings in one line, and an episode as a GIF."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

ARM = ("fit", "--config", "ppo_arm", "--seed_everything", "0")
SMALL = (
    *("--data.init_args.num_envs", "4", "--data.init_args.rollout_steps", "16"),
    *("--data.init_args.eval_episodes", "2", "--budget.total_env_steps", "64"),
    *("--data.init_args.env_kwargs.num_steps", "12", "--model.init_args.batch_size", "32"),
)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("joints", "7", "ArmTask: joints = 7, expected 3 <= joints <= 6, or a list"),
        ("joints", "2", "ArmTask: joints = 2, expected 3 <= joints <= 6, or a list"),
        (
            "length_m",
            "[0.14, 0.04]",
            "length_m must be (low, high) with 0 < low <= high, got (0.14, 0.04); the bounds are reversed",
        ),
        ("joint", "3", "PlanarArm has no setting 'joint'. Did you mean joints?"),
    ],
)
def test_arms_that_cannot_be_end_the_run_in_one_line(
    error: Callable[..., str], tmp_path: Path, setting: str, value: str, message: str
):
    assert error(1, *ARM, f"--data.init_args.env_kwargs.{setting}", value) == message
    assert not list(tmp_path.glob("runs/*/*/config.yaml"))


def test_an_episode_becomes_a_gif(run: Callable[..., int], tmp_path: Path):
    assert run(*ARM, *SMALL) == 0
    config = tmp_path / "runs/ppo_arm/latest/config.yaml"
    film = tmp_path / "arm.gif"
    assert run("test", "--config", config, "--ckpt_path", "last", "--video", film) == 0
    with Image.open(film) as image:
        assert image.size == (400, 400)
        assert image.n_frames == 12
