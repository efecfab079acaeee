"""Bodies, cells and archives that cannot be: one line each, and no run directory is left behind."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lit_rl.envs.arm.body import ArmSpace
from lit_rl.qd.archive import Archive
from lit_rl.qd.descriptors import arm_grid, arm_measures

Run = Callable[..., int]
SMALL = [
    "--data.num_envs", "4", "--data.rollout_steps", "8", "--data.env_kwargs.num_steps", "8",
    "--data.eval_episodes", "2", "--data.num_goals", "2", "--model.batch_size", "16", "--model.hidden", "[4]",
    "--budget.total_env_steps", "32", "--trainer.callbacks.generations", "1", "--run_dir", "here",
]  # fmt: skip
DATA = "--data.env_kwargs."


def of_two_elites(path: Path, space: ArmSpace, length_cells: int = 20) -> str:
    """Write the archive of two arms, and return its path."""
    genes = np.random.default_rng(0).random((2, space.num_genes))
    genes[:, 0] = (0.1, 0.9)  # fewest and most joints
    archive = Archive(arm_grid(space, length_cells), space.num_genes)
    archive.add(genes, np.array([0.1, 0.2]), arm_measures(space.decode(genes)))
    archive.save_csv(path)
    return str(path)


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ([DATA + "joints", "[2, 3]"], "joints[0] = 2, expected 3 <= joints[0] <= 6"),
        ([DATA + "joints", "[3, 7]"], "joints[1] = 7, expected 3 <= joints[1] <= 6"),
        ([DATA + "joints", "[]"], "joints must name at least one joint count, got none"),
        (
            [DATA + "length_m", "[0.14, 0.04]"],
            "length_m must be (low, high) with 0 < low <= high, got (0.14, 0.04); the bounds are reversed",
        ),
        ([DATA + "gear", "[0.4, 0.05]"], "gear must be (low, high) with 0 < low <= high"),
        ([DATA + "radius_m", "[0.0, 0.02]"], "radius_m[0] = 0.0, expected radius_m[0] > 0"),
        (["--data.length_cells", "0"], "length_cells"),
        (["--data.centroid_cells", "2.5"], "centroid_cells"),
        (["--trainer.callbacks.batch_size", "0"], "MapElites: batch_size = 0, expected 1 <= batch_size"),
        (["--trainer.callbacks.iso_sigma", "-1"], "MapElites: iso_sigma = -1.0, expected iso_sigma > 0"),
        (["--trainer.callbacks.archive", "gone.csv"], "archive = gone.csv cannot be read (No such file"),
    ],
)
def test_bad_input_is_refused_in_one_line(
    argv: list[str], text: str, run: Run, cwd: Path, capsys: pytest.CaptureFixture[str]
):
    assert run("fit", "--config", "map_elites/basic", *SMALL, *argv) in (1, 2)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lit-rl: error: ")]
    assert len(errors) == 1
    assert text in errors[0]
    assert not (cwd / "here/map_elites").exists()


def test_an_archive_of_other_bodies_is_refused(run: Run, cwd: Path, capsys: pytest.CaptureFixture[str]):
    thick = ArmSpace(radius_m=(0.01, 0.02))
    path = of_two_elites(cwd / "thick.csv", thick)
    assert run("fit", "--config", "map_elites/basic", *SMALL, "--trainer.callbacks.archive", path) != 0
    assert "thick.csv is of another archive: this one has 13 genes" in capsys.readouterr().err
    path = of_two_elites(cwd / "coarse.csv", ArmSpace(), length_cells=7)
    assert run("fit", "--config", "map_elites/basic", *SMALL, "--trainer.callbacks.archive", path) != 0
    assert "coarse.csv is of another archive: its measures do not lie in the cells" in capsys.readouterr().err
    torn = cwd / "torn.csv"
    torn.write_text((cwd / "thick.csv").read_text()[:-20])
    assert run("fit", "--config", "map_elites/basic", *SMALL, "--trainer.callbacks.archive", str(torn)) != 0
    assert not (cwd / "here/map_elites").exists()


def test_a_search_begins_with_the_bodies_of_an_archive(run: Run, cwd: Path):
    path = of_two_elites(cwd / "two.csv", ArmSpace())
    more = ["--trainer.callbacks.archive", path, "--trainer.callbacks.num_initial", "1"]
    assert run("fit", "--config", "map_elites/basic", *SMALL, *more) == 0
    grid = arm_grid(ArmSpace())
    before, after = Archive(grid, 13), Archive(grid, 13)
    before.load_csv(Path(path))
    after.load_csv(cwd / "here/map_elites/archive.csv")
    assert len(after) == 3
    kept = {tuple(genes) for genes in after.genes.tolist()}
    assert {tuple(genes) for genes in before.genes.tolist()} <= kept
    objective = after.data()["objective"]
    assert not np.isin(before.data()["objective"], objective).any()  # measured here, not believed
    assert math.isfinite(objective.sum())
