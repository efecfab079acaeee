"""Bodies to train on, and the picture of an archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lit_rl.qd.archive import Archive
from lit_rl.qd.bodies import choose_bodies
from lit_rl.qd.grid import Grid
from lit_rl.qd.picture import draw_archive


def sizes(genes: np.ndarray) -> list[int]:
    return np.bincount((genes[:, 0] * 4).astype(int).clip(0, 3), minlength=4).tolist()


def test_without_elites_all_bodies_are_random_and_sizes_equally_frequent():
    genes = choose_bodies(np.random.default_rng(0), 40, np.zeros((0, 13)), (0.5, 0.25, 0.25), 4, 13)
    assert sizes(genes) == [10, 10, 10, 10]
    assert ((genes >= 0) & (genes <= 1)).all()
    assert len(np.unique(genes[:, 1])) == 40


def test_shares_are_kept_and_sizes_of_elites_balanced():
    """Of 101 elites only one has six joints, and yet half of the bodies that are elites have."""
    elites = np.full((101, 13), 0.1) + np.arange(101)[:, None] / 1e6
    elites[100] = 0.99
    genes = choose_bodies(np.random.default_rng(0), 40, elites, (0.5, 0.25, 0.25), 4, 13)
    is_elite = (genes[:, None] == elites[None]).all(2).any(1)
    assert is_elite.sum() == 20
    assert sizes(genes[is_elite]) == [10, 0, 0, 10]
    mutants = genes[20:30]
    assert 0.02 < np.abs(mutants - np.where(mutants > 0.5, 0.99, 0.1)).mean() < 0.12
    only_elites = choose_bodies(np.random.default_rng(0), 12, elites, (1, 0, 0), 4, 13)
    assert (only_elites[:, None] == elites[None]).all(2).any(1).all()


def test_the_picture_shows_each_cell_in_its_place(tmp_path: Path):
    """The lower left cell of the left panel is the best one, the upper right one of the right panel worst."""
    archive = Archive(Grid(("a", "b_m", "c"), (2, 2, 2), ((0, 1),) * 3), 1)
    archive.add(np.zeros((2, 1)), np.array([1.0, 0.0]), np.array([[0.1] * 3, [0.9] * 3]))
    draw_archive(archive, tmp_path / "archive.png")
    image = np.asarray(Image.open(tmp_path / "archive.png").convert("RGB")).astype(int)
    yellow = np.argwhere((np.abs(image - (253, 231, 37)) < 6).all(2))
    dark = np.argwhere((np.abs(image - (68, 1, 84)) < 6).all(2))
    panels = [found[found[:, 1] < 0.8 * image.shape[1]].mean(0) for found in (yellow, dark)]
    assert panels[0][0] > panels[1][0]
    assert panels[0][1] < panels[1][1]
    assert [path.name for path in tmp_path.iterdir()] == ["archive.png"]


def test_an_empty_archive_has_a_picture_too(tmp_path: Path):
    draw_archive(Archive(Grid(("a", "b", "c"), (2, 2, 2), ((0, 1),) * 3), 1), tmp_path / "archive.png")
    assert (tmp_path / "archive.png").stat().st_size > 1000
