"""Counts which skills a hierarchical policy uses: how often, how evenly, how often it changes.

Axes: T steps, N environments.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL

RECENT = 100
"""Assignments over which the diversity is taken."""


class SkillCounter:
    """Counts assignments of skills, not the env steps they last.

    A policy says by ``extras`` (``TEAM_SKILL``, ``AGENT_SKILLS`` and ``SKILL_START`` of ``lit_rl.types``)
    which skills each step belongs to and where they were assigned. Nothing is counted for other policies.

    Attributes:
        has_skills: Whether any batch so far came from a policy with skills.
        team_counts: Assignments of each team skill.
        agent_counts: Assignments of each agent skill, each agent counting by itself.
        switches: Assignments of another team skill than the one before in the same episode.
    """

    def __init__(self) -> None:
        self.has_skills = False
        self.team_counts: Counter[int] = Counter()
        self.agent_counts: Counter[int] = Counter()
        self.switches = 0
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._last: np.ndarray | None = None  # (N,) team skill of the step before the next batch

    def update(self, extras: Mapping[str, Tensor], reset: Tensor, valid: Tensor | None = None) -> None:
        """Count a rollout.

        Args:
            extras: What the policy recorded, each ``(T, N, ...)``.
            reset: ``(T+1, N)`` bool or ``(T, N)``: step t is the first of an episode.
            valid: ``(T, N)`` bool, False where the environment only reset itself: no assignment counts there.
        """
        if SKILL_START not in extras:
            return
        self.has_skills = True
        start = extras[SKILL_START].cpu().numpy()  # (T, N)
        if valid is not None:
            start = start & valid.cpu().numpy()
        if AGENT_SKILLS in extras:
            _count(self.agent_counts, extras[AGENT_SKILLS].cpu().numpy()[start])
        if TEAM_SKILL in extras:
            self._update_team(extras[TEAM_SKILL].cpu().numpy(), start, reset.cpu().numpy())

    def _update_team(self, team: np.ndarray, start: np.ndarray, reset: np.ndarray) -> None:
        before = team[:1] if self._last is None else self._last[None]  # no switch at the very first step
        before = np.concatenate([before, team[:-1]])  # (T, N)
        self.switches += int((start & ~reset[: len(team)] & (team != before)).sum())
        self._last = team[-1].copy()
        assigned = team[start]  # in the order of time
        _count(self.team_counts, assigned)
        self._recent.extend(assigned[-RECENT:].tolist())

    @property
    def diversity(self) -> float | None:
        """exp(entropy) of the team skills of the last 100 assignments, 1 to the number of skills; or None."""
        if not self._recent:
            return None
        shares = [count / len(self._recent) for count in Counter(self._recent).values()]
        return math.exp(-sum(share * math.log(share) for share in shares))

    def add(self, other: SkillCounter) -> None:
        """Add the counts of another rank."""
        self.has_skills |= other.has_skills
        self.team_counts.update(other.team_counts)
        self.agent_counts.update(other.agent_counts)
        self.switches += other.switches

    def get_state(self) -> dict[str, Any]:
        """Everything counted so far, as plain types."""
        return {
            "has_skills": self.has_skills,
            "team_counts": dict(self.team_counts),
            "agent_counts": dict(self.agent_counts),
            "switches": self.switches,
            "recent": list(self._recent),
            "last": None if self._last is None else self._last.tolist(),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        self.has_skills = state["has_skills"]
        self.team_counts = Counter(state["team_counts"])
        self.agent_counts = Counter(state["agent_counts"])
        self.switches = state["switches"]
        self._recent = deque(state["recent"], maxlen=RECENT)
        self._last = None if state["last"] is None else np.array(state["last"])


def _count(counts: Counter[int], skills: np.ndarray) -> None:
    values, numbers = np.unique(skills, return_counts=True)
    counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
