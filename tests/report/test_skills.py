import json
from typing import Any

from lit_rl.report.runs import group_runs, read_run
from lit_rl.report.skills import MAX_TIMELINES, skills


def timeline(**changes):
    """Two spans and three assignments of two agents."""
    return {
        "env_steps": 400,
        "spans": [
            {"from": 0, "to": 200, "team": [0.25, 0.75], "agents": [1.0, 0.0]},
            {"from": 200, "to": 400, "team": [0.5, 0.5], "agents": [0.4, 0.6]},
        ],
        "assignments": [[100, 0, [0, 1]], [200, 0, [1, 1]], [300, 1, [1, 1]]],
        **changes,
    }


def section(*runs) -> Any:
    return skills(group_runs([read_run(run) for run in runs]))


def write(run, content):
    (run / "skill_timeline.json").write_text(json.dumps(content))
    return run


def test_shares_over_training_are_curves(make_run):
    found = section(write(make_run("a"), timeline()))
    team, agents = found.charts
    assert team.title == "Team skills of PPO, CartPole-v1, seed 1"
    assert [line.name for line in team.lines] == ["skill 0", "skill 1"]
    assert [line.color for line in agents.lines] == [0, 1]  # as in the bands
    assert team.lines[0].series.steps.tolist() == [100, 300]
    assert team.lines[0].series.values.tolist() == [0.25, 0.5]
    assert agents.lines[1].series.values.tolist() == [0, 0.6]
    assert "each of 2 spans of training" in team.caption


def test_the_newest_assignments_are_bands(make_run):
    html = section(write(make_run("a"), timeline())).html
    assert "PPO, CartPole-v1, seed 1: the last 3 assignments of environment 0" in html
    assert all(f">{label}</text>" in html for label in ("team skill", "agent 0", "agent 1"))
    assert "agent 2" not in html
    # the team's first block spans two of three assignments, up to the third
    assert 'd="M130.0 4h703.2v20h-703.2z" fill="var(--c0)"' in html


def test_agents_alone(make_run):
    spans = [{"from": 0, "to": 9, "team": [], "agents": [1.0]}]
    found = section(write(make_run("a"), timeline(spans=spans, assignments=[[0, None, [0]]])))
    assert [chart.title.split()[0] for chart in found.charts] == ["Agent"]
    assert "team skill" not in found.html


def test_damaged_files_cost_their_picture_only(make_run):
    runs = [write(make_run("a"), {"spans": [3]}), write(make_run("b", 2), timeline())]
    found = section(*runs)
    assert found.html.count("skill_timeline.json is damaged") == 1
    assert len(found.charts) == 2
    (runs[0] / "skill_timeline.json").write_text('{"spans": [')
    assert section(runs[0]).html.count("skill_timeline.json is damaged") == 1


def test_of_many_runs_some_timelines_are_drawn(make_run):
    found = section(*(write(make_run(f"a{k}", k), timeline()) for k in range(2, MAX_TIMELINES + 5)))
    assert found.html.count("<svg") == MAX_TIMELINES
    assert found.note.endswith("The timelines of 3 more runs are not drawn.")
