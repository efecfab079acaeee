from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule

from lit_rl import PPO, RolloutDataModule
from lit_rl.data import playback
from lit_rl.data.playback import split_fixed
from lit_rl.envs.alice_bob import AliceAndBob
from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL
from tests.toys import Episodes57, MatchingPair, fit, make_trainer


class Seen(MatchingPair):
    """Episodes of four steps that tell their clock."""

    def picture(self, env: int) -> dict[str, Any]:
        return {"kind": "pair", "t": int(self.t[env]), "length": self.length}


class Skilled(PPO):
    def act(self, obs: Any, carry: Any, reset: torch.Tensor, *, greedy: bool = False) -> Any:
        decision = super().act(obs, carry, reset, greedy=greedy)
        skills = {
            TEAM_SKILL: reset.long(),
            AGENT_SKILLS: torch.tensor([[0, 3]]).expand(len(reset), 2),
            SKILL_START: reset,
        }
        return decision._replace(extras=decision.extras | skills)


def ppo(kind: type[PPO] = PPO) -> PPO:
    return kind(hidden=(4,), batch_size=8, update_epochs=1)


def train(directory: Path, module: LightningModule, env: Any = Seen, **kwargs: Any) -> Path:
    data = RolloutDataModule(env, 2, 4, 2, eval_episodes=3, seed=0, playback=True)
    fit(module, data, default_root_dir=directory, limit_val_batches=1.0, **kwargs)
    return directory / "playback.json"


def test_frames_come_before_their_steps(tmp_path: Path):
    content = json.loads(train(tmp_path, ppo()).read_text())
    rewards = content.pop("reward")
    assert content == {
        "env": "MatchingPair",
        "agents": ["left", "right"],
        "env_steps": 16,
        "eval_policy": "greedy",
        "end": "truncated",
        "fixed": {"kind": "pair", "length": 4},
        "frames": [{"t": 0}, {"t": 1}, {"t": 2}, {"t": 3}],
    }
    assert len(rewards) == 4
    assert all(isinstance(reward, float) for reward in rewards)


def test_skills_go_with_the_steps_they_decide(tmp_path: Path):
    content = json.loads(train(tmp_path, ppo(Skilled)).read_text())
    assert content["team_skill"] == [1, 0, 0, 0]
    assert content["agent_skills"] == [[0, 3]] * 4
    assert content["skill_start"] == [True, False, False, False]


def test_it_says_which_policy_was_played(tmp_path: Path):
    data = RolloutDataModule(Seen, 2, 4, 2, eval_episodes=3, playback=True, eval_policy="sample")
    fit(ppo(), data, default_root_dir=tmp_path, limit_val_batches=1.0)
    assert json.loads((tmp_path / "playback.json").read_text())["eval_policy"] == "sample"


def test_the_newest_evaluation_replaces_the_older(tmp_path: Path):
    content = json.loads(train(tmp_path, ppo(), max_epochs=3).read_text())
    assert content["env_steps"] == 48
    assert [path.name for path in tmp_path.iterdir() if "play" in path.name] == ["playback.json"]


def test_long_episodes_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(playback, "MAX_FRAMES", 3)
    content = json.loads(train(tmp_path, ppo()).read_text())
    assert content["end"] == "cut"
    assert len(content["frames"]) == len(content["reward"]) == 3


def test_an_environment_without_picture_is_refused_before_training(tmp_path: Path):
    message = r"playback=True needs an environment with picture\(env\) -> dict, Episodes57 has none: set "
    with pytest.raises(ValueError, match=message) as caught:
        train(tmp_path, ppo(), Episodes57)
    assert "\n" not in str(caught.value)


def test_recording_changes_nothing_that_is_learned(tmp_path: Path):
    weights = []
    for is_recorded in (False, True):
        torch.manual_seed(0)
        module = ppo()
        data = RolloutDataModule(AliceAndBob, 2, 4, 2, eval_episodes=2, seed=0, playback=is_recorded)
        fit(module, data, default_root_dir=tmp_path, limit_val_batches=1.0, max_epochs=2)
        weights.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*weights)
    assert (tmp_path / "playback.json").exists()


def test_only_training_writes(tmp_path: Path):
    data = RolloutDataModule(Seen, 2, 4, 2, eval_episodes=3, seed=0, playback=True)
    trainer = make_trainer(default_root_dir=tmp_path, limit_val_batches=1.0)
    trainer.validate(ppo(), datamodule=data, verbose=False)
    fit(ppo(), data, default_root_dir=tmp_path, fast_dev_run=1)
    assert not (tmp_path / "playback.json").exists()


def test_a_file_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "playback.json").mkdir()
    with caplog.at_level(logging.WARNING, "lit_rl"):
        train(tmp_path, ppo())
    assert "playback.json cannot be written (" in caplog.text


def test_what_never_changes_is_written_once():
    pictures = [{"a": 1, "b": [1, 2]}, {"a": 1, "b": [1, 3]}]
    assert split_fixed(pictures) == ({"a": 1}, [{"b": [1, 2]}, {"b": [1, 3]}])
    assert np.shape(split_fixed(pictures[:1])[1]) == (1,)
