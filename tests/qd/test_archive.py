"""The archive: cells, what it refuses, what it counts, and its files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from ribs.archives import GridArchive

from lit_rl.qd.archive import BETTER, LOST, NEW, Archive
from lit_rl.qd.grid import Grid

GRID = Grid(("a", "b"), (2, 5), ((0.0, 1.0), (-1.0, 1.0)), offset=-1.0)


def add(archive: Archive, *bodies: tuple[float, float, float]) -> list[int]:
    """Each is an objective and two measures; genes are three times the objective."""
    rows = np.array(bodies)
    return archive.add(np.repeat(rows[:, :1], 3, 1), rows[:, 0], rows[:, 1:]).tolist()


def test_each_cell_keeps_its_best_body_and_equal_ones_do_not_replace_it():
    archive = Archive(GRID, 3)
    assert add(archive, (0.5, 0.1, -0.9), (0.25, 0.9, 0.9)) == [NEW, NEW]
    assert add(archive, (0.5, 0.2, -0.8), (0.75, 0.9, 0.9), (0.1, 0.1, -0.9)) == [LOST, BETTER, LOST]
    data = archive.data()
    assert data["index"].tolist() == [0, 9]
    assert data["objective"].tolist() == [0.5, 0.75]
    assert data["measures"].tolist() == [[0.1, -0.9], [0.9, 0.9]]
    assert archive.genes.tolist() == [[0.5] * 3, [0.75] * 3]
    assert archive.qd_score == pytest.approx(1.5 + 1.75)
    assert (archive.coverage, archive.best, archive.mean) == (0.2, 0.75, 0.625)


def test_an_empty_archive_has_no_score():
    archive = Archive(GRID, 3)
    assert (len(archive), archive.qd_score, archive.coverage) == (0, 0.0, 0.0)
    assert math.isnan(archive.best)
    assert archive.genes.shape == (0, 3)


@pytest.mark.parametrize("part", ["genes", "objective", "measures"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(part: str, value: float):
    given = {"genes": np.zeros((2, 3)), "objective": np.zeros(2), "measures": np.zeros((2, 2))}
    given[part][1] = value
    archive = Archive(GRID, 3)
    with pytest.raises(ValueError, match=f"body 1 cannot be kept: its {part} are not finite"):
        archive.add(**given)
    assert len(archive) == 0


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"must have shapes .*\(2, 3\).* got .*\(2, 4\)"):
        Archive(GRID, 3).add(np.zeros((2, 4)), np.zeros(2), np.zeros((2, 2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cells": (2, 0)}, "cells of b must be a whole number, at least 1, got 0"),
        ({"cells": (2, 2.5)}, "cells of b must be a whole number"),
        ({"cells": (True, 2)}, "cells of a must be a whole number"),
        ({"cells": (2,)}, "one name, one number of cells and one range for each measure"),
        ({"ranges": ((1.0, 0.0), (0.0, 1.0))}, r"ranges of a must be finite \(low, high\) with low < high"),
        ({"ranges": ((0.0, 0.0), (0.0, 1.0))}, "ranges of a must be finite"),
        ({"ranges": ((0.0, 1.0), (0.0, math.inf))}, "ranges of b must be finite"),
        ({"ranges": ((0.0, 1.0), 3)}, "ranges of b must be finite"),
        ({"offset": math.nan}, "offset must be finite"),
    ],
)
def test_cells_and_ranges_that_pyribs_would_take_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Grid(**{"names": ("a", "b"), "cells": (2, 5), "ranges": ((0.0, 1.0), (0.0, 1.0)), **change})


def test_bodies_out_of_range_are_told_and_count_to_the_border():
    archive = Archive(GRID, 3)
    assert archive.are_out_of_range(np.array([[0.5, 0.0], [1.1, 0.0], [0.0, -1.01]])).tolist() == [
        False,
        True,
        True,
    ]
    add(archive, (0.5, 7.0, 7.0))
    assert archive.data()["index"].tolist() == [9]


def random_archive(num: int = 200) -> Archive:
    rng = np.random.default_rng(0)
    archive = Archive(GRID, 3)
    archive.add(rng.random((num, 3)), rng.normal(size=num), rng.uniform(-1, 1, (num, 2)))
    return archive


def test_a_csv_is_read_by_pyribs_to_the_same_score(tmp_path: Path):
    archive = random_archive()
    archive.save_csv(tmp_path / "archive.csv")
    table = pd.read_csv(tmp_path / "archive.csv")
    theirs = GridArchive(solution_dim=3, dims=[2, 5], ranges=[(0, 1), (-1, 1)], qd_score_offset=-1.0)
    theirs.add(
        table.filter(like="solution_").to_numpy(),
        table["objective"].to_numpy(),
        table.filter(like="measures_").to_numpy(),
    )
    assert theirs.stats.num_elites == len(archive) == 10
    assert float(theirs.stats.qd_score) == pytest.approx(archive.qd_score, abs=1e-12)
    assert theirs.data("index").tolist() == table["index"].tolist()


def test_a_csv_is_read_back_bit_for_bit_also_one_of_pyribs(tmp_path: Path):
    archive = random_archive()
    archive.save_csv(tmp_path / "ours.csv")
    archive.ribs.data(return_type="pandas").to_csv(tmp_path / "theirs.csv", index=False)
    for name in ("ours.csv", "theirs.csv"):
        again = Archive(GRID, 3)
        again.load_csv(tmp_path / name)
        for field, values in archive.data().items():
            np.testing.assert_array_equal(again.data()[field], values)


def test_a_csv_of_another_archive_or_a_torn_one_is_refused_and_changes_nothing(tmp_path: Path):
    path = tmp_path / "archive.csv"
    random_archive().save_csv(path)
    text = path.read_text()
    kept = Archive(GRID, 3)
    add(kept, (0.5, 0.1, -0.9))
    other_cells = Archive(Grid(("a", "b"), (4, 5), GRID.ranges), 3)
    for archive, content, message in (
        (Archive(GRID, 4), text, "archive.csv is of another archive.*missing: solution_3"),
        (Archive(GRID, 2), text, "archive.csv is of another archive.*unknown: solution_2"),
        (other_cells, text, "measures do not lie in the cells that it names"),
        (kept, text[:-30], "archive.csv is torn: line 11"),
        (kept, text.replace(text.splitlines()[1].split(",")[0], "nan"), "not finite"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            archive.load_csv(path)
    assert len(kept) == 1
