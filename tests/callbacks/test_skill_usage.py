from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl import PPO, RolloutDataModule
from lit_rl.callbacks import SkillUsage, skill_usage
from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL
from tests.toys import Episodes57, MemoryLogger, fit

ENVS, STEPS = 2, 8


class Skilled(PPO):
    """Team skill 0, 2, 0, 2, ... at every fourth step of its life, agent i has skill i; 1 is never used."""

    def initial_carry(self, num_envs: int) -> Any:
        return {"clock": torch.zeros(num_envs, dtype=torch.int64)}

    def act(self, obs: Any, carry: Any, reset: torch.Tensor, *, greedy: bool = False) -> Any:
        decision = super().act(obs, {}, reset, greedy=greedy)
        clock = carry["clock"]
        skills = {
            TEAM_SKILL: clock // 4 % 2 * 2,
            AGENT_SKILLS: torch.stack([torch.zeros_like(clock), torch.ones_like(clock)], -1),
            SKILL_START: clock % 4 == 0,
        }
        return decision._replace(carry={"clock": clock + 1}, extras=decision.extras | skills)


def train(
    directory: Path, callback: SkillUsage, kind: type[PPO] = Skilled, batches: int = 3, **kwargs: Any
) -> MemoryLogger:
    module = kind(hidden=(4,), batch_size=16, update_epochs=1)
    data = RolloutDataModule(Episodes57, ENVS, STEPS, batches, seed=0)
    return fit(module, data, callbacks=[callback], default_root_dir=directory, **kwargs)


def test_current_skills_and_shares_by_hand(tmp_path: Path):
    logger = train(tmp_path, SkillUsage())
    rows = [(step, row) for step, row in logger.rows if "Skills/Current/TeamSkill" in row]
    assert [step for step, _ in rows] == [16, 32, 48]  # once per batch
    for _, row in rows:
        skills = {name: value for name, value in row.items() if name.startswith("Skills/")}
        assert skills == {
            "Skills/Current/TeamSkill": 2,
            "Skills/Current/Agent0_Skill": 0,
            "Skills/Current/Agent1_Skill": 1,
            "Skills/Current/Diversity": pytest.approx(2),
            "Skills/EpisodeCounts/TeamSkill_0": 0.5,
            "Skills/EpisodeCounts/TeamSkill_1": 0,
            "Skills/EpisodeCounts/TeamSkill_2": 0.5,
            "Skills/EpisodeCounts/AgentSkill_0": 0.5,
            "Skills/EpisodeCounts/AgentSkill_1": 0.5,
        }


def test_the_file_by_hand(tmp_path: Path):
    train(tmp_path, SkillUsage())
    content = json.loads((tmp_path / "skill_timeline.json").read_text())
    halves = {"team": [0.5, 0, 0.5], "agents": [0.5, 0.5]}
    assert content == {
        "env_steps": 48,
        "spans": [{"from": begin, "to": begin + 16, **halves} for begin in (0, 16, 32)],
        "assignments": [[8 * k, k % 2 * 2, [0, 1]] for k in range(6)],  # every four steps of two environments
    }


def test_a_policy_without_skills_is_told_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "lit_rl"):
        logger = train(tmp_path, SkillUsage(), PPO)
    told = [record.message for record in caplog.records if "SkillUsage" in record.message]
    assert told == ["SkillUsage: PPO has no skills, so nothing is logged or written"]
    assert not any(name.startswith("Skills/") for _, row in logger.rows for name in row)
    assert not (tmp_path / "skill_timeline.json").exists()


def test_dry_runs_write_nothing(tmp_path: Path):
    train(tmp_path, SkillUsage(), fast_dev_run=1)
    assert not (tmp_path / "skill_timeline.json").exists()


def test_written_while_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(skill_usage, "WRITE_INTERVAL_S", 0.0)
    written = []
    monkeypatch.setattr(
        skill_usage, "write_json", lambda path, content, indent: written.append(content["env_steps"])
    )
    train(tmp_path, SkillUsage())
    assert written == [16, 32, 48, 48]


def test_a_file_that_cannot_be_written_costs_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "skill_timeline.json").mkdir()
    train(tmp_path, SkillUsage())
    assert sum("skill_timeline.json cannot be written (" in record.message for record in caplog.records) == 1


def test_state_is_plain_and_goes_on(tmp_path: Path):
    first = SkillUsage()
    train(tmp_path, first)
    state = first.state_dict()
    torch.save(state, tmp_path / "state.pt")
    second = SkillUsage()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert second.state_dict() == state
    train(tmp_path, second)  # another run, from env step 0: nothing of the first is left
    assert second.state_dict() == state
