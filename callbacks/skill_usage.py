"""Logs which skills a policy uses, over training and just now."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lit_rl import metrics
from lit_rl.callbacks.skills.counter import SkillCounter
from lit_rl.callbacks.skills.timeline import SkillTimeline, shares
from lit_rl.callbacks.trainer.attributes import is_dry_run
from lit_rl.files import write_json
from lit_rl.types import (
    AGENT_SKILLS,
    SKILL_START,
    TEAM_SKILL,
    Learner,
    ReplayBatch,
    Rollout,
    as_learner,
)

_log = logging.getLogger("lit_rl")

FILE = "skill_timeline.json"

WRITE_INTERVAL_S = 10.0
"""Shortest time between two versions of the file while training goes on."""


class SkillUsage(Callback):
    """Logs ``Skills/Current/*`` and ``Skills/EpisodeCounts/*`` and writes ``skill_timeline.json``.

    Once per batch it logs, all of this rank: ``Skills/Current/TeamSkill`` and
    ``Skills/Current/Agent{i}_Skill`` (i from 0) of environment 0 at the last step of the batch,
    ``Skills/Current/Diversity``, and ``Skills/EpisodeCounts/TeamSkill_{}`` and
    ``Skills/EpisodeCounts/AgentSkill_{}``, the share of each skill among the assignments of the batch, for
    all skills up to the highest seen so far.

    The file, in the run directory, has a bounded size: the last 2000 assignments of environment 0 as
    ``[env steps before it, team skill, agent skills]``, and for each of at most 200 equal spans of training
    the share of each team and agent skill, of all environments of the first rank. It is written every 10 s at
    most and at the end; ``lit-rl report`` draws it.

    When the policy has no skills, nothing is logged or written, and that is said once. A file that cannot be
    written is warned of once.

    Raises:
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(self) -> None:
        self._forget(0)
        self._path: Path | None = None
        self._written_at = 0.0
        self._has_told = False

    def _forget(self, env_steps: int) -> None:
        """Drop all counts, and begin with a run that is at ``env_steps``."""
        self._counter, self._timeline = SkillCounter(), SkillTimeline(env_steps)
        self._num_skills = {TEAM_SKILL: 0, AGENT_SKILLS: 0}  # the highest seen so far, plus one

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "SkillUsage")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on where the checkpoint or the last fit stopped, or begin anew."""
        env_steps = self._learner.env_steps
        if env_steps != self._timeline.env_steps or not env_steps:
            self._forget(env_steps)
        writes = trainer.is_global_zero and not is_dry_run(trainer)
        self._path = Path(trainer.default_root_dir) / FILE if writes else None
        self._written_at = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Rollout | ReplayBatch,
        batch_idx: int,
    ) -> None:
        """Count, log, and write when it is time."""
        if "extras" not in batch or SKILL_START not in batch["extras"]:
            self._tell(trainer, type(pl_module).__name__)
            return
        module, extras = self._learner, batch["extras"]
        team_before, agents_before = self._counter.team_counts.copy(), self._counter.agent_counts.copy()
        self._counter.update(extras, batch["reset"], batch["valid"])
        team, agents = self._counter.team_counts - team_before, self._counter.agent_counts - agents_before
        steps, num_envs = batch["terminated"].shape
        per_step = num_envs * trainer.world_size
        begin = module.env_steps - steps * per_step
        assigned = _assignments(extras, batch["valid"], begin, per_step)
        self._timeline.add(begin, module.env_steps, team, agents, assigned)
        module.log_values(self._current(extras) | self._shares(team, agents))
        if time.monotonic() - self._written_at >= WRITE_INTERVAL_S:
            self._write()

    def _current(self, extras: Mapping[str, Tensor]) -> dict[str, float]:
        """Skills of environment 0 at the last step, and how many are in use."""
        values: dict[str, float] = {}
        if TEAM_SKILL in extras:
            values[metrics.SKILL_TEAM] = float(extras[TEAM_SKILL][-1, 0])
        if AGENT_SKILLS in extras:
            for agent, skill in enumerate(extras[AGENT_SKILLS][-1, 0].tolist()):
                values[metrics.SKILL_AGENT.format(agent)] = float(skill)
        if self._counter.diversity is not None:
            values[metrics.SKILL_DIVERSITY] = self._counter.diversity
        return values

    def _shares(self, team: Counter[int], agents: Counter[int]) -> dict[str, float]:
        values = {}
        for kind, name, counts in (
            (TEAM_SKILL, metrics.SKILL_TEAM_SHARE, team),
            (AGENT_SKILLS, metrics.SKILL_AGENT_SHARE, agents),
        ):
            self._num_skills[kind] = max([self._num_skills[kind], *(skill + 1 for skill in counts)])
            of_each = shares(counts, self._num_skills[kind])
            values |= {name.format(skill): share for skill, share in enumerate(of_each)}
        return values

    def _tell(self, trainer: Trainer, learner: str) -> None:
        if not self._has_told and trainer.is_global_zero:
            _log.info("SkillUsage: %s has no skills, so nothing is logged or written", learner)
        self._has_told = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file."""
        self._write()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what was seen until then."""
        self._write()

    def _write(self) -> None:
        if self._path is None or not self._counter.has_skills:
            return
        self._written_at = time.monotonic()
        try:
            write_json(self._path, self._timeline.summary(), indent=None)
        except OSError as error:
            _log.warning("SkillUsage: %s cannot be written (%s)", self._path, error.strerror or error)
            self._path = None

    def state_dict(self) -> dict[str, Any]:
        """Counts and timeline, as plain types."""
        return {
            "counter": self._counter.get_state(),
            "timeline": self._timeline.get_state(),
            "num_skills": dict(self._num_skills),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self._counter.set_state(state_dict["counter"])
        self._timeline.set_state(state_dict["timeline"])
        self._num_skills = dict(state_dict["num_skills"])


def _assignments(
    extras: Mapping[str, Tensor], valid: Tensor | None, begin: int, per_step: int
) -> list[tuple[int, int | None, list[int]]]:
    """Env steps before it, team skill (or None) and agent skills of each assignment of environment 0."""
    start = extras[SKILL_START][:, 0].cpu().numpy()
    if valid is not None:
        start = start & valid[:, 0].cpu().numpy()
    at = np.flatnonzero(start)
    team = extras[TEAM_SKILL][:, 0].cpu().numpy()[at].tolist() if TEAM_SKILL in extras else [None] * len(at)
    agents = (
        extras[AGENT_SKILLS][:, 0].cpu().numpy()[at].tolist() if AGENT_SKILLS in extras else [[]] * len(at)
    )
    return [(begin + t * per_step, z, own) for t, z, own in zip(at.tolist(), team, agents, strict=True)]
