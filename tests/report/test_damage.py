"""A wrong value costs the part of the page that needs it: each file of a run, damaged in each way."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from lit_rl.report.archive import FILE as ARCHIVE
from lit_rl.report.html import write_report
from lit_rl.report.paper import write_paper
from lit_rl.report.playback import FILE as PLAYBACK
from lit_rl.report.process import FILE as PROCESS
from lit_rl.report.sections import learning
from lit_rl.report.skills import FILE as SKILLS
from lit_rl.report.status import describe_run

FILES = [
    ARCHIVE,
    PLAYBACK,
    PROCESS,
    SKILLS,
    "config.yaml",
    "eval.json",
    "network_loss_logs/a_loss_log/config.json",
    "network_loss_logs/a_loss_log/recorder.json",
    "network_loss_logs/location.txt",
    "paper_data/skill_usage_step_7.json",
    "paper_data/sync_training_summary.json",
    "versions.json",
]
"""Every file that a report reads besides ``metrics.csv``."""

DIGITS = "9" * 4000


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def links_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content",
    [
        b'{"a": ' * 3000,
        b"[" * 100_000,
        b"\x00\xff" * 99,
        b'{"team_skills": {"0": [], "1": "x"}}',
        b"{{",
        b'"\\ud800"',
    ],
    ids=["deep", "brackets", "binary", "types", "torn", "surrogate"],
)
def test_no_content_stops_a_report(make_run, name, content):
    run = make_run("a")
    write(run / name, content)
    assert "eval" in write_report([run]).read_text()
    assert "env steps   400" in describe_run(run)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, links_to_itself], ids=["fifo", "folder", "loop"])
def test_no_kind_of_file_stops_a_report(make_run, name, make):
    run = make_run("a")
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).unlink(missing_ok=True)
    make(run / name)
    assert "Learning curves" in write_report([run]).read_text()
    assert "env steps   400" in describe_run(run)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (ARCHIVE, "{", "archive.json is damaged"),
        (PLAYBACK, "{", "the recorded episode is damaged"),
        (SKILLS, "{", "skill_timeline.json is damaged"),
        ("paper_data/skill_usage_step_7.json", '{"team_skills": 3}', "the export of skill usage is damaged"),
        (
            "network_loss_logs/a_loss_log/recorder.json",
            f'{{"offered": {DIGITS}}}',
            "recorder.json is damaged",
        ),
        ("network_loss_logs/a_loss_log/config.json", '{"networks": {"a": 3}}', "config.json is damaged"),
        ("config.yaml", "model: &a {b: *a}", "config.yaml is damaged"),
    ],
)
def test_the_page_says_what_could_not_be_read(make_run, name, content, said):
    run = make_run("a")
    write(run / name, content.encode())
    assert said in write_report([run]).read_text()


def test_a_section_that_cannot_be_made_says_so_and_the_others_are_shown(make_run, monkeypatch):
    def speed(groups: Any) -> None:
        raise TypeError("no number")

    monkeypatch.setattr("lit_rl.report.html.SECTIONS", [speed, learning])
    page = write_report([make_run("a")]).read_text()
    assert '<h2>Speed</h2>\n<p class="muted">This part is left out: what it needs is damaged.</p>' in page
    assert "Learning curves" in page


@pytest.mark.parametrize("value", [DIGITS, "1e999", "NaN", "-Infinity", '"nan"', "[1]", "true", "-1"])
def test_no_number_of_the_process_stops_a_report(make_run, value):
    run = make_run("a")
    names = ("pid", "create_time", "started", "ended", "exit_code", "total_env_steps")
    numbers = ", ".join(f'"{name}": {value}' for name in names)
    (run / "process.json").write_text(
        f'{{"state": "running", "host": {json.dumps(os.uname().nodename)}, {numbers}}}'
    )
    assert "env steps   400" in describe_run(run)
    assert "Learning curves" in write_report([run]).read_text()


def test_metrics_that_no_float_holds(make_run):
    rows = [
        f"100,{DIGITS},nan,-{DIGITS},{DIGITS},1e308",
        f"{DIGITS},1,1,1,1,1",
        "200,1e300,-1e300,inf,-inf,-1e308",
    ]
    run = make_run("a", rows=rows)
    assert "training inf, evaluation -inf at 200 env steps" in describe_run(run)
    assert "episode/return_mean: 2 of 2 values not finite" in write_report([run]).read_text()
    message = f"the last eval/return_mean of run {run} is -inf, not a finite number: leave it out"
    with pytest.raises(ValueError, match=re.escape(message)):
        write_paper([run], run / "paper")


def test_a_grid_of_ten_million_cells(make_run):
    cells = {"cells": [5000, 2000], "measures": ["x", "y"], "ranges": [[0, 1], [0, 1]], "offset": 0.0}
    found = {"index": [0, 9_999_999], "objective": [0.0, 1.0], "bodies": [{}, {}]}
    run = make_run("a")
    write(run / ARCHIVE, json.dumps({**cells, "archive": found}).encode())
    page = write_report([run]).read_text()
    assert "Its grid of 5000 x 2000 cells is too large to draw." in page
    assert len(page) < 200_000
    many = {"index": list(range(6000)), "objective": [0.5] * 6000, "bodies": [{}] * 6000}
    write(run / ARCHIVE, json.dumps({**cells, "archive": many}).encode())
    assert "Its 6000 cells are too many to draw." in write_report([run]).read_text()
