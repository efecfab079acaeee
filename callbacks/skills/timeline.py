"""Keeps which skills were assigned over a whole training run, in a size that does not grow with it."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

RECENT = 2000
"""Assignments of one environment that are kept."""

MAX_SPANS = 200
"""Spans of training that are kept; then neighbours are merged."""


class Span(TypedDict):
    """Assignments within equal parts of training; plain types, for checkpoints."""

    team: dict[int, int]
    agents: dict[int, int]


class SkillTimeline:
    """Assignments of one environment one by one, and those of all environments in spans of equal width.

    A batch counts for the span in which it begins. The first batch sets the width of a span; when there
    would be more than ``MAX_SPANS``, neighbours are merged in pairs and the width doubles.

    Args:
        origin: Env step at which training begins.
    """

    def __init__(self, origin: int = 0) -> None:
        self.origin = self.env_steps = origin
        self.width: int | None = None
        self._spans: list[Span] = []
        self._recent: deque[list[Any]] = deque(maxlen=RECENT)  # env step, team skill or None, agent skills

    def add(
        self,
        begin: int,
        end: int,
        team: Mapping[int, int],
        agents: Mapping[int, int],
        assigned: Sequence[tuple[int, int | None, list[int]]] = (),
    ) -> None:
        """Add a batch.

        Args:
            begin: Env steps before the batch.
            end: Env steps after it, more than ``begin``.
            team: Assignments of each team skill within it.
            agents: Assignments of each agent skill.
            assigned: Env step, team skill and agent skills of each assignment of the one environment.
        """
        self.env_steps = end
        self._recent.extend([step, skill, list(own)] for step, skill, own in assigned)
        if self.width is None:
            self.width = end - begin
        while (index := (begin - self.origin) // self.width) >= MAX_SPANS:
            self._spans = [_merged(self._spans[k : k + 2]) for k in range(0, len(self._spans), 2)]
            self.width *= 2
        while len(self._spans) <= index:
            self._spans.append({"team": {}, "agents": {}})
        self._spans[index] = _merged([self._spans[index], {"team": dict(team), "agents": dict(agents)}])

    def summary(self) -> dict[str, Any]:
        """Content of the file: shares of skills 0, 1, ... in each span with assignments, and the recent ones.

        ``from`` and ``to`` are env steps; ``team`` and ``agents`` are empty where there are no such skills.
        """
        num_team, num_agent = (_num_skills(span[kind] for span in self._spans) for kind in ("team", "agents"))
        spans = []
        for index, span in enumerate(self._spans):
            begin = self.origin + index * (self.width or 0)
            if span["team"] or span["agents"]:
                spans.append(
                    {
                        "from": begin,
                        "to": min(begin + (self.width or 0), self.env_steps),
                        "team": shares(span["team"], num_team),
                        "agents": shares(span["agents"], num_agent),
                    }
                )
        return {"env_steps": self.env_steps, "spans": spans, "assignments": list(self._recent)}

    def get_state(self) -> dict[str, Any]:
        """The whole timeline, as plain types."""
        return {
            "origin": self.origin,
            "env_steps": self.env_steps,
            "width": self.width,
            "spans": [{"team": dict(s["team"]), "agents": dict(s["agents"])} for s in self._spans],
            "recent": list(self._recent),
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        self.origin, self.env_steps, self.width = state["origin"], state["env_steps"], state["width"]
        self._spans = list(state["spans"])
        self._recent = deque(state["recent"], maxlen=RECENT)


def shares(counts: Mapping[int, int], num_skills: int) -> list[float]:
    """Share of skills 0 to ``num_skills - 1`` among ``counts``, to four decimals; empty without any."""
    total = sum(counts.values())
    return [round(counts.get(skill, 0) / total, 4) for skill in range(num_skills)] if total else []


def _num_skills(counts: Any) -> int:
    return max((skill + 1 for span in counts for skill in span), default=0)


def _merged(spans: Sequence[Span]) -> Span:
    team, agents = Counter[int](), Counter[int]()
    for span in spans:
        team.update(span["team"])
        agents.update(span["agents"])
    return {"team": dict(team), "agents": dict(agents)}
