"""Environment, wrapper and encoder of a user, named in YAML; the block of docs/environments.md."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).parents[2] / "docs" / "environments.md").read_text()
MODULE = """
import gymnasium, numpy as np

class MyEnv(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, difficulty):
        self.difficulty = difficulty

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return obs, float(self.difficulty), False, False, {"reward_distance": 1.0}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's block, made small, beside the module it names."""
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    (tmp_path / "my_package.py").write_text(MODULE)
    (block,) = (
        text for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "my_package.MyEnv" in text
    )
    content = yaml.safe_load(block)
    content["data"]["init_args"] |= {"num_envs": 2, "rollout_steps": 16, "eval_episodes": 1}
    content["data"]["init_args"]["wrappers"][0]["init_args"]["max_episode_steps"] = 10
    content["model"]["init_args"]["batch_size"] = 16
    content["budget"] = {"total_env_steps": 32}
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_block_of_the_page_trains(run, config: Path, capsys: pytest.CaptureFixture[str]):
    assert run("fit", "--config", config, "--run_dir", config.parent / "run") == 0
    assert "return 20.0" in capsys.readouterr().out  # ten steps of reward 2
    header = (config.parent / "run" / "metrics.csv").read_text().splitlines()[0]
    assert "env/reward_distance" in header
    assert run("test", "--config", config.parent / "run" / "config.yaml", "--ckpt_path", "last") == 0


@pytest.mark.parametrize("key", ["data.env.init_args", "data.env_kwargs"])
def test_a_setting_of_an_environment_is_changed_on_the_command_line(
    run, config: Path, key: str, capsys: pytest.CaptureFixture[str]
):
    content = yaml.safe_load(config.read_text())
    content["data"]["init_args"] |= {"env_kwargs": None}
    content["data"]["init_args"]["env"]["init_args"] = {"difficulty": 2}
    config.write_text(yaml.safe_dump(content))
    assert run("fit", "--config", config, "--run_dir", config.parent / "run", f"--{key}.difficulty", "3") == 0
    assert "return 30.0" in capsys.readouterr().out
    saved = config.parent / "run" / "config.yaml"
    assert run("test", "--config", saved, "--ckpt_path", "last") == 0
    assert "return 30.0" in capsys.readouterr().out


def test_a_setting_that_an_environment_does_not_have_is_named(
    run, config: Path, capsys: pytest.CaptureFixture[str]
):
    directory = config.parent / "run"
    assert run("fit", "--config", config, "--run_dir", directory, "--data.env.init_args.hardness", "3") != 0
    message = capsys.readouterr().err.splitlines()[-1]
    assert message == "lit-rl: error: MyEnv.__init__() got an unexpected keyword argument 'hardness'"
    assert not directory.exists()


def test_a_class_that_is_not_there_is_named(run, config: Path, capsys: pytest.CaptureFixture[str]):
    assert run("fit", "--config", config, "--data.env.class_path", "my_package.Other") == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("lit-rl: error: env.class_path 'my_package.Other' cannot be imported (module ")
    assert not (config.parent / "runs").exists()
