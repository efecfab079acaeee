import re

import pytest

from lit_rl.report.bands import Band, Block, Curve, blocks_of, draw_bands, height_of, skill_bands, ticks, x_of


def test_neighbours_of_equal_skill_are_one_block():
    assert blocks_of([2, 2, 0, 2], [0, 3, 5, 6, 9]) == [Block(0, 5, 2), Block(5, 6, 0), Block(6, 9, 2)]
    assert blocks_of([], [0]) == []
    with pytest.raises(ValueError, match="zip"):
        blocks_of([1, 1], [0, 1])


def test_a_band_for_the_team_and_one_for_each_agent():
    bands = skill_bands(["alice"], [1, 1], [[0, 5], [0, 6]], [0, 1, 2])
    assert [band.label for band in bands] == ["team skill", "alice", "agent 1"]
    assert bands[2].blocks == [Block(0, 1, 5), Block(1, 2, 6)]
    assert skill_bands([], [], [], [0]) == []


def test_blocks_lie_side_by_side_and_wide_ones_say_their_skill():
    svg = draw_bands([Band("<a>", [Block(0, 990, 8), Block(990, 1000, 11)])], 0, 1000, "env steps")
    paths = re.findall(
        r'<path d="M([\d.]+) 4h([\d.]+)v20h-[\d.]+z" fill="var\(--c(\d)\)"( fill-opacity)?', svg
    )
    (left, width, color, pale), (next_left, _, next_color, _) = paths
    assert (float(left), color, next_color) == (130, "1", "4")
    assert pale  # more skills than colours
    assert float(left) + float(width) < float(next_left) == pytest.approx(x_of(990, 0, 1000), abs=0.06)
    numbers = svg.partition('<g class="on"')[2].partition("</g>")[0]
    assert re.findall(r">(\d+)<", numbers) == ["8"]  # ten steps are too narrow for a number
    assert "&lt;a&gt;" in svg
    assert "<a>" not in svg


def test_curves_stand_above_and_reach_their_ends():
    curve = Curve("reward", [0, 2, 1], 0, 2)
    svg = draw_bands([], 0, 3, "step", [curve], "<i></i>")
    assert f'viewBox="0 0 1200 {height_of([], [curve])}"' in svg
    assert 'd="M130.0 44.0h352.0L482.0 8.0h352.0L834.0 26.0h352.0"' in svg  # up to its top, and half-way down
    assert svg.count("<i></i>") == 1


def test_a_constant_curve_is_a_line():
    assert "nan" not in draw_bands([], 0, 2, "step", [Curve("reward", [0, 0], 0, 0)])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 200, [0, 50, 100, 150, 200]), (3, 7, [3, 4, 5, 6, 7]), (0, 0.4, [0, 0.1, 0.2, 0.3, 0.4])],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high, 5) == expected
