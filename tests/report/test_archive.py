"""The archive on the page: its numbers, its cells at their places, and the body in each of them."""

import json
import re
from typing import Any

import pytest

from lit_rl.report import archive as archive_page
from lit_rl.report.archive import Axis, archive
from lit_rl.report.arm_drawing import draw_body
from lit_rl.report.html import write_report
from lit_rl.report.runs import group_runs, read_run


def body(*lengths: float) -> dict[str, Any]:
    return {"kind": "planar_arm", "lengths": list(lengths), "gears": [0.4] * len(lengths)}


def content(**changes: Any) -> dict[str, Any]:
    """Two of 2 x 4 x 5 cells: cell (0, 1, 2) and cell (1, 3, 4)."""
    return {
        "measures": ["joints", "length_m", "torque_centroid"],
        "cells": [2, 4, 5],
        "ranges": [[2.5, 4.5], [0.0, 0.8], [0.0, 1.0]],
        "offset": -0.7,
        "archive": {
            "index": [0 * 20 + 1 * 5 + 2, 1 * 20 + 3 * 5 + 4],
            "objective": [0.1, 0.5],
            "bodies": [body(0.1, 0.1, 0.1), body(0.2, 0.2, 0.2, 0.1)],
        },
        "corrected": {"index": [7], "objective": [0.3]},
        **changes,
    }


def section(*runs: Any) -> Any:
    return archive(group_runs([read_run(run) for run in runs]))


def write(run: Any, written: Any) -> Any:
    (run / "map_elites").mkdir(exist_ok=True)
    (run / "map_elites" / "archive.json").write_text(json.dumps(written))
    return run


def cells_of(html: str) -> list[list[str]]:
    table = re.search(r"<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert table
    return [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table[1])]


def test_the_table_compares_the_archive_with_what_it_is_judged_by(make_run):
    rows = cells_of(section(write(make_run("a"), content())).html)
    assert rows[0] == ["archive of the search", "2", "2", "5.0%", "0.5"]  # 0.1 + 0.5 + 2 * 0.7 of 40 cells
    assert rows[1][1:] == ["1", "1", "2.5%", "0.3"]
    assert rows[2] == ["random search, equal number of evaluations", "not measured", "", "", ""]


def test_each_body_stands_in_its_cell_and_empty_borders_are_cut(make_run):
    html = section(write(make_run("a"), content())).html
    # columns 1 to 3 and rows 2 to 4 are used; rows count upwards
    first, second = re.findall(r'<g transform="translate\((\d+) (\d+)\)"><title>(.*?)</title>', html)
    assert first == ("62", "60", "joints 3, length (m) 0.3, torque centroid 0.5: fitness 0.1")
    assert second == ("174", "0", "joints 4, length (m) 0.7, torque centroid 0.9: fitness 0.5")
    assert html.count("<circle") == 3 + 4
    assert "<h4>3 joints: 1 elite</h4>" in html
    assert 'text-anchor="middle">0.2</text>' in html  # the axis begins where the cells do
    assert 'fill-opacity="0.15"' in html
    assert 'fill-opacity="0.80"' in html


def test_an_archive_of_two_measures_is_one_panel(make_run):
    found = {"index": [3], "objective": [1.0], "bodies": [{"kind": "unknown"}]}
    two = {"measures": ["x", "y"], "cells": [2, 2], "ranges": [[0, 1], [0, 1]], "archive": found}
    html = section(write(make_run("a"), content(**two))).html
    assert "<h4>1 elite</h4>" in html
    assert "x 0.75, y 0.75: fitness 1" in html


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"archive": {"index": [], "objective": [], "bodies": []}}, "The archive is empty."),
        ({"measures": ["x"], "cells": [40], "ranges": [[0, 1]]}, "this one has 1 measure."),
        ({"archive": {"index": [400], "objective": [1.0], "bodies": [{}]}}, "archive.json is damaged"),
        ({"archive": {"index": [4], "objective": ["<b>"], "bodies": [{}]}}, "archive.json is damaged"),
        ({"archive": 3}, "archive.json is damaged"),
    ],
)
def test_what_cannot_be_drawn_is_said(make_run, changes, said):
    assert said in section(write(make_run("a"), content(**changes))).html


def test_the_page_stays_small_and_a_run_without_archive_has_no_section(make_run, monkeypatch, tmp_path):
    assert section(make_run("b", 2)) is None
    run = write(make_run("a"), content())
    assert "<h2>Archive</h2>" in write_report([run], tmp_path / "page.html").read_text()
    monkeypatch.setattr(archive_page, "PAGE_BYTES", 100)
    html = section(run).html
    assert "not drawn, to keep the page small" in html
    assert "<svg" not in html


def test_a_body_is_drawn_to_scale_with_a_disc_for_each_motor():
    drawn = draw_body(body(0.1, 0.1), 48, 0.4)  # 100 px per m
    points = [tuple(map(float, p)) for p in re.findall(r"L(-?[\d.]+) (-?[\d.]+)", drawn)]
    assert points == [(9.2, -3.9), (18.4, 0.0)]  # 10 px at 0.4 rad up, then down again
    assert drawn.count('r="4.0"') == 2


def test_names_of_measures_are_words():
    assert Axis("length_m", 0, 1, 2).words == "length (m)"
    assert Axis("torque_centroid", 0, 1, 2).words == "torque centroid"
    assert Axis("joints", 0, 1, 2).words == "joints"
