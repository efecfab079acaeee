"""MAP-Elites and random search: what is asked, told, counted, refused and resumed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from ribs.emitters import EvolutionStrategyEmitter

from lit_rl.qd.grid import Grid
from lit_rl.qd.search import (
    Measured,
    Search,
    TooManyFailures,
    corrected,
    random_search,
)

GRID = Grid(("x", "y"), (10, 10), ((0.0, 1.0), (0.0, 1.0)), offset=-1.0)


def measure(genes: np.ndarray) -> Measured:
    return Measured(-((genes - 0.5) ** 2).mean(1), genes[:, :2])


def cma_me(archive: Any, seed: int) -> list[EvolutionStrategyEmitter]:
    return [
        EvolutionStrategyEmitter(
            archive, x0=[0.5] * 4, sigma0=0.1, batch_size=10, seed=seed + k, bounds=[(0.0, 1.0)] * 4
        )
        for k in range(2)
    ]


MAKERS = {
    "lines": lambda: Search(GRID, 4, batch_size=20, seed=3),
    "cma_me": lambda: Search(GRID, 4, seed=3, num_initial=64, emitters=cma_me),
    "random": lambda: random_search(GRID, 4, batch_size=20, seed=3),
}


def play(search: Search, generations: int) -> None:
    for _ in range(generations):
        search.tell(measure(search.ask()))


@pytest.mark.parametrize("maker", MAKERS)
def test_a_resumed_search_goes_on_bit_for_bit(maker: str):
    """The state is saved between ask and tell, and read as plain data."""
    whole, stopped = MAKERS[maker](), MAKERS[maker]()
    play(whole, 30)
    play(stopped, 12)
    stopped.ask()
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    play(stopped, 5)  # what happens later must not change what was saved
    file.seek(0)
    resumed = MAKERS[maker]()
    resumed.load_state_dict(torch.load(file, weights_only=True))
    play(resumed, 18)
    for field, values in whole.archive.data().items():
        np.testing.assert_array_equal(resumed.archive.data()[field], values)
    np.testing.assert_array_equal(resumed.ask(), whole.ask())
    assert resumed.archive.ribs.stats == whole.archive.ribs.stats
    assert (resumed.evaluations, resumed.generations) == (whole.evaluations, 30)


def test_a_state_of_other_cells_or_emitters_is_refused():
    state = MAKERS["lines"]().state_dict()
    other = Grid(("x", "y"), (10, 20), GRID.ranges)
    with pytest.raises(ValueError, match=r"the saved archive has cells = \[10, 10\], this one \[10, 20\]"):
        Search(other, 4).load_state_dict(state)
    with pytest.raises(ValueError, match="the saved archive has num_genes = 4, this one 5"):
        Search(GRID, 5).load_state_dict(state)
    with pytest.raises(ValueError, match=r"1 items at .*emitters, there are 2 now"):
        MAKERS["cma_me"]().load_state_dict(state)


def test_the_first_bodies_are_random_and_the_others_within_bounds():
    search = Search(GRID, 4, batch_size=20, num_initial=50, seed=1)
    sizes = []
    for _ in range(5):
        genes = search.ask()
        np.testing.assert_array_equal(search.ask(), genes)  # asked again
        assert ((genes >= 0) & (genes <= 1)).all()
        sizes.append(len(genes))
        search.tell(measure(genes))
    assert sizes == [20, 20, 10, 20, 20]
    assert search.evaluations == 90


def test_failed_bodies_are_counted_and_never_kept():
    search = random_search(GRID, 4, batch_size=10)
    genes = search.ask()
    objective, measures = np.arange(10.0), np.linspace(0.05, 0.95, 20).reshape(10, 2)
    objective[3] = np.nan
    status = search.tell(Measured(objective, measures, ["", "no solution"] + [""] * 8))
    assert status.tolist() == [2, 0, 2, 0, 2, 2, 2, 2, 2, 2]
    assert (search.evaluations, search.failed) == (10, 2)
    assert search.problems == {"no solution": 1, "objective are not finite": 1}
    np.testing.assert_array_equal(search.archive.genes, genes[[0, 2, 4, 5, 6, 7, 8, 9]])
    search.ask()
    with pytest.raises(
        TooManyFailures, match=r"3 of 10 bodies of generation 2 failed, more than 20%; 3 .*: fell"
    ):
        search.tell(Measured(np.ones(10), measures, ["fell"] * 3 + [""] * 7))
    assert (search.evaluations, search.failed) == (20, 5)


def test_an_emitter_that_learns_from_ranks_skips_a_generation_with_a_failed_body():
    search = Search(GRID, 4, seed=3, num_initial=0, emitters=cma_me)
    play(search, 3)
    genes = search.ask()
    whole = measure(genes)
    search.tell(Measured(whole.objective, whole.measures, ["fell"] + [""] * 19))
    iterations = [emitter.itrs for emitter in search._ribs.emitters]
    assert iterations == [2, 4] or iterations == [3, 4]
    play(search, 3)
    assert search.failed == 1


def test_what_pyribs_would_lose_of_a_generation_is_told_again():
    search = random_search(GRID, 4, batch_size=10)
    genes = search.ask()
    with pytest.raises(ValueError, match="of 10 bodies must have shapes"):
        search.tell(Measured(np.zeros(9), genes[:, :2]))
    search.tell(measure(genes))
    with pytest.raises(RuntimeError, match=r"needs ask\(\) before it"):
        search.tell(measure(genes))


def test_bodies_out_of_range_are_counted_and_warned_of_once(caplog: pytest.LogCaptureFixture):
    search = random_search(GRID, 4, batch_size=10)
    for _ in range(2):
        genes = search.ask()
        search.tell(Measured(np.zeros(10), genes[:, :2] + np.array([2.0, 0.0])))
    assert search.out_of_range == 20
    assert len([record for record in caplog.records if "outside the ranges" in record.message]) == 1


def test_elites_are_measured_again_when_the_policy_has_moved():
    """Half of every objective is lost, and bodies with y above 0.5 move to other cells."""
    search = random_search(GRID, 4, batch_size=100)
    genes = search.ask()
    search.tell(Measured(np.ones(100), genes[:, :2]))
    before = len(search.archive)
    ratio = search.remeasure(
        lambda genes: Measured(np.zeros(len(genes)), np.stack([genes[:, 0], genes[:, 1] / 2], 1))
    )
    data = search.archive.data()
    assert (data["measures"][:, 1] <= 0.5).all()
    assert (data["objective"] == 0).all()
    assert ratio == pytest.approx(len(data["objective"]) * 1.0 / (before * 2.0))
    assert (search.evaluations, search.evaluations_again) == (100, before)


def test_the_corrected_archive_holds_what_was_measured_afresh():
    search = random_search(GRID, 4, batch_size=4)
    search.ask()
    search._asked = [np.array([[0.1] * 4, [0.3] * 4, [0.5] * 4, [0.7] * 4])]
    search.tell(measure(search.ask()))

    def fresh(genes: np.ndarray) -> Measured:
        """The second body moves into the cell of the first, where it is worse; the third fails."""
        measures = np.array([[0.1, 0.1], [0.1, 0.1], [0.5, 0.5], [0.7, 0.7]])
        return Measured(np.array([0.5, 0.25, np.nan, 0.0]), measures)

    archive = corrected(search.archive, fresh)
    assert archive.data()["objective"].tolist() == [0.5, 0.0]
    assert archive.qd_score == 1.5 + 1.0
    assert len(search.archive) == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [({"batch_size": 0}, "batch_size = 0, expected"), ({"iso_sigma": float("nan")}, "iso_sigma"),
     ({"num_initial": -1}, "num_initial = -1, expected")],
)  # fmt: skip
def test_arguments_are_checked(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        Search(GRID, 4, **change)
