"""Skills of a run: how often each was assigned, how that changed over training, and the newest ones."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from lit_rl.report.bands import draw_bands, skill_bands
from lit_rl.report.curves import Chart, Line
from lit_rl.report.damage import DAMAGED, noting, object_of, reason
from lit_rl.report.markup import render
from lit_rl.report.runs import Group, Run
from lit_rl.report.section import Section
from lit_rl.report.tables import Series
from lit_rl.report.words import number, plural

SHOWN_ASSIGNMENTS = 120
"""So many assignments of environment 0 are drawn; more would be too thin to see."""

MAX_TIMELINES = 8
"""The timelines of so many runs are drawn."""

MOST_SKILLS = 100
"""A run has so many skills of a kind at most."""

FILE = "skill_timeline.json"

_SKILL_USAGE = re.compile(r"skill_usage_step_(\d+)\.json")


def skills(groups: Sequence[Group]) -> Section | None:
    """Show ``skill_usage_step_*.json`` of ``PaperExport`` and ``skill_timeline.json`` of ``SkillUsage``."""
    html, num_drawn, left_out, charts = Markup(), 0, 0, []
    for group in groups:
        for run in group.runs:
            name = f"{group.label}, seed {run.seed}"
            notes: list[str] = []
            with noting("the export of skill usage", notes):
                html += _usage_bars(name, _skill_usage(run))
            html += Markup().join(Markup("<p>{}: {}.</p>\n").format(name, note) for note in notes)
            try:
                timeline = object_of(run.path / FILE)
                of_run = _share_charts(name, timeline)
                drawn = _timeline(name, timeline) if num_drawn < MAX_TIMELINES else Markup()
            except DAMAGED as error:
                html += Markup("<p>{}: {}.</p>\n").format(name, reason(error, FILE))
                continue
            html += drawn
            num_drawn += bool(drawn)
            left_out += bool(timeline) and not drawn
            charts += of_run
    if not html and not charts:
        return None
    note = "Numbers and shares of assignments, not of env steps."
    note += f" The timelines of {plural(left_out, 'more run')} are not drawn." if left_out else ""
    return Section("Skills", html, charts, note)


def _usage_bars(name: str, usage: dict[str, Any]) -> Markup:
    if not usage.get("team_skills"):
        return Markup()
    switches = usage.get("skill_switches")
    title = f"{name}: {'' if switches is None else number(switches)} switches"
    tables = [
        (title, "team skill", usage["team_skills"]),
        ("of its agents", "agent skill", usage.get("agent_skills") or {}),
    ]
    return render("usage.html", tables=tables)


def _timeline(name: str, timeline: dict[str, Any]) -> Markup:
    """Draw the newest assignments of environment 0 as bands."""
    assigned = timeline.get("assignments", [])[-SHOWN_ASSIGNMENTS:]
    if not assigned:
        return Markup()
    steps, team, agents = zip(*assigned, strict=True)
    ends = [*steps, max(timeline["env_steps"], steps[-1] + 1)]
    of_team = [] if team[0] is None else [int(skill) for skill in team]
    bands = skill_bands([f"agent {i}" for i in range(len(agents[0]))], of_team, agents, ends)
    title = f"{name}: the last {plural(len(assigned), 'assignment')} of environment 0"
    drawn = draw_bands(bands, ends[0], ends[-1], "env steps")
    return Markup("<h3>{}</h3>\n{}").format(title, drawn)


def _share_charts(name: str, timeline: dict[str, Any]) -> list[Chart]:
    """Make charts of the shares over training, with one curve per skill."""
    spans = timeline.get("spans", [])
    charts = []
    for kind, whose in (("team", "team"), ("agents", "agent")):
        of_kind = [span for span in spans if span[kind]]
        if not of_kind:
            continue
        steps = np.array([(span["from"] + span["to"]) / 2 for span in of_kind])
        shares = np.array([span[kind] for span in of_kind], np.float64)  # (spans, skills)
        if not np.isfinite(steps).all() or shares.ndim != 2 or shares.shape[1] > MOST_SKILLS:
            raise ValueError("expected the share of each skill over env steps")
        lines = [Line(f"skill {k}", k, Series(steps, column)) for k, column in enumerate(shares.T)]
        caption = (
            f"Share of each {whose} skill among the {whose} skills assigned within each of "
            f"{plural(len(of_kind), 'span')} of training. One that stays at 0 is not used any more."
        )
        charts.append(Chart(f"{whose.capitalize()} skills of {name}", "share of assignments", caption, lines))
    return charts


def _skill_usage(run: Run) -> dict[str, Any]:
    """Read the newest export of the first rank; it is empty where there is none."""
    files = run.path.glob("paper_data/skill_usage_step_*.json")
    steps = {int(match[1]): path for path in files if (match := _SKILL_USAGE.fullmatch(path.name))}
    return object_of(steps[max(steps)]) if steps else {}
