"""MAP-Elites: ask for bodies, measure them elsewhere, tell what they were."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ribs.emitters import EmitterBase, IsoLineEmitter

from lit_rl.arguments import Count, Number, Positive, Seed, check_arguments
from lit_rl.qd.archive import BETTER, NEW, Archive
from lit_rl.qd.grid import Grid
from lit_rl.qd.plain_state import get_plain_state, set_plain_state

_log = logging.getLogger("lit_rl")

MAX_FAILED = 0.2
"""Largest share of the bodies of one generation that may fail."""
_MAX_OUT_OF_RANGE = 0.01

MakeEmitters = Callable[[Any, int], Sequence[EmitterBase]]
"""Makes emitters for a pyribs archive and a seed."""


@dataclass(frozen=True)
class Measured:
    """What was measured of several bodies, one a row.

    Args:
        objective: ``(bodies,)``, larger is better.
        measures: ``(bodies, measures)``, what decides the cell.
        problems: Why a body could not be measured, "" where it could; None where all could. What the other
            arrays hold of such a body is ignored.
    """

    objective: np.ndarray
    measures: np.ndarray
    problems: Sequence[str] | None = None


class TooManyFailures(RuntimeError):  # noqa: N818  # reads as what happened
    """More than 20 % of the bodies of one generation could not be measured."""


class Search:
    """Looks for good bodies in every cell, by changing those that were found.

    The first ``num_initial`` bodies are drawn uniformly within [0, 1], the others by the emitters of pyribs.
    A body that failed, or was measured with a number that is not finite, is counted and never kept; nothing
    is made up in its place. An emitter that learns from ranks (CMA-ME) learns nothing from a generation with
    such a body, but its other bodies are kept.

    Args:
        grid: Cells of the archive.
        num_genes: Numbers in a genotype, each in [0, 1].
        batch_size: Bodies in a generation, where ``emitters`` is None.
        num_initial: Bodies that are drawn at random first; None takes one generation, 0 none.
        iso_sigma: Random change of every gene. 0.1 found more planar arms than 0.05: QD scores of 580 to 619
            against 496 to 533, in 7,680 evaluations from four seeds each.
        line_sigma: Change along the line to another elite, as a share of their distance.
        seed: Seed of all that is drawn.
        emitters: Makes the emitters; None makes pyribs' ``IsoLineEmitter`` of the arguments above. All bodies
            are random where it returns an empty list, which is the random search to compare with.

    Attributes:
        evaluations: Bodies that were told, the failed ones too.
        generations: Calls of :meth:`tell`.
        failed: Bodies that failed.
        out_of_range: Bodies measured outside the ranges of the grid.
        evaluations_again: Measurements of elites that were in the archive already.
        problems: How often each reason to fail was met.

    Raises:
        ValueError: A number is out of its range.
    """

    def __init__(
        self,
        grid: Grid,
        num_genes: Count,
        *,
        batch_size: Count = 64,
        num_initial: Number | None = None,
        iso_sigma: Positive = 0.1,
        line_sigma: Positive = 0.2,
        seed: Seed = 0,
        emitters: MakeEmitters | None = None,
    ) -> None:
        check_arguments(Search, locals())
        self.archive = Archive(grid, num_genes, seed)
        self._batch_size = batch_size
        self._num_initial = batch_size if num_initial is None else num_initial
        self._rng = np.random.default_rng([seed, 1])
        if emitters is None:
            made = [
                IsoLineEmitter(
                    self.archive.ribs,
                    iso_sigma=iso_sigma,
                    line_sigma=line_sigma,
                    x0=[0.5] * num_genes,
                    bounds=[(0.0, 1.0)] * num_genes,
                    batch_size=batch_size,
                    seed=seed,
                )
            ]
        else:
            made = list(emitters(self.archive.ribs, seed))
        self._ribs = SimpleNamespace(archive=self.archive.ribs, emitters=made)
        self.evaluations = self.generations = self.failed = 0
        self.out_of_range = self.evaluations_again = 0
        self.problems: Counter[str] = Counter()
        self._asked: list[np.ndarray] | None = None
        self._has_warned = False

    def ask(self) -> np.ndarray:
        """Return the genes of the next generation, ``(bodies, genes)``; asking again returns them again."""
        if self._asked is None:
            emitters = self._ribs.emitters
            if self.evaluations < self._num_initial or not emitters or not len(self.archive):
                left = self._num_initial - self.evaluations
                num = min(self._batch_size, left) if emitters and left > 0 else self._batch_size
                is_random = not emitters or left > 0
                self._asked = [self._rng.random((num, self.archive.num_genes))] if is_random else self._emit()
            else:
                self._asked = self._emit()
        return np.concatenate(self._asked)

    def _emit(self) -> list[np.ndarray]:
        return [np.array(emitter.ask()) for emitter in self._ribs.emitters]

    def tell(self, measured: Measured) -> np.ndarray:
        """Keep what is better than before; in the order of :meth:`ask`.

        Returns:
            ``(bodies,)`` of ``LOST``, ``BETTER`` or ``NEW``.

        Raises:
            RuntimeError: Nothing was asked for.
            ValueError: A shape differs; the same generation can then be told again.
            TooManyFailures: More than ``MAX_FAILED`` of the bodies failed; the others are kept.
        """
        if self._asked is None:
            raise RuntimeError("tell() needs ask() before it: nothing is being measured")
        genes = np.concatenate(self._asked)
        objective, measures, problems = self._checked(genes, measured)
        is_good = np.array([not problem for problem in problems])
        info = self.archive.add_info(genes[is_good], objective[is_good], measures[is_good])
        status = np.zeros(len(genes), np.int64)
        status[is_good] = info["status"]
        self._teach(is_good, objective, measures, info)
        self._asked = None
        self.evaluations += len(genes)
        self.generations += 1
        self._count(problems, self.archive.are_out_of_range(measures[is_good]))
        return status

    def _checked(self, genes: np.ndarray, measured: Measured) -> tuple[np.ndarray, np.ndarray, list[str]]:
        """Return objective and measures as arrays, and the problem of each body."""
        objective = np.asarray(measured.objective, np.float64)
        measures = np.asarray(measured.measures, np.float64)
        given = [""] * len(genes) if measured.problems is None else list(measured.problems)
        expected = (len(genes),), (len(genes), len(self.archive.grid.cells)), len(genes)
        got = objective.shape, measures.shape, len(given)
        if expected != got:
            raise ValueError(
                f"objective, measures and problems of {len(genes)} bodies must have shapes {expected}, "
                f"got {got}"
            )
        found = self.archive.find_problems(genes, objective, measures)
        return objective, measures, [told or seen for told, seen in zip(given, found, strict=True)]

    def _teach(
        self, is_good: np.ndarray, objective: np.ndarray, measures: np.ndarray, info: dict[str, np.ndarray]
    ) -> None:
        """Tell emitters of their own bodies, where none of these failed."""
        assert self._asked is not None
        if len(self._asked) != len(self._ribs.emitters) or not is_good.any():
            return
        is_emitted = self.evaluations >= self._num_initial
        row_of = np.cumsum(is_good) - 1
        start = 0
        for emitter, own in zip(self._ribs.emitters, self._asked, strict=True):
            rows = slice(start, start + len(own))
            start += len(own)
            if is_emitted and len(own) and is_good[rows].all():
                add_info = {name: values[row_of[rows]] for name, values in info.items()}
                emitter.tell(own, objective[rows], measures[rows], add_info)

    def _count(self, problems: list[str], is_out: np.ndarray) -> None:
        failed = [problem for problem in problems if problem]
        self.failed += len(failed)
        self.problems.update(failed)
        self.out_of_range += int(is_out.sum())
        measured = self.evaluations + self.evaluations_again - self.failed
        if not self._has_warned and self.out_of_range > _MAX_OUT_OF_RANGE * measured:
            self._has_warned = True
            _log.warning(
                "%d of %d bodies were measured outside the ranges of the archive, and count to the cells at "
                "its border; wider ranges would tell them apart",
                self.out_of_range,
                measured,
            )
        if len(failed) > MAX_FAILED * len(problems):
            most, times = Counter(failed).most_common(1)[0]
            raise TooManyFailures(
                f"{len(failed)} of {len(problems)} bodies of generation {self.generations} failed, more than "
                f"{MAX_FAILED:.0%}; {times} of them because: {most}"
            )

    def remeasure(self, measure: Callable[[np.ndarray], Measured]) -> float:
        """Measure all elites again, and fill the archive with what they are now.

        A shared policy moves, and what it once reached with a body says little of today. An elite that fails
        now is counted and leaves the archive.

        Returns:
            The QD score now as a share of that before; NaN for an empty archive.

        Raises:
            TooManyFailures: More than ``MAX_FAILED`` of the elites failed; the archive is then as it was.
        """
        genes, before = self.archive.genes, self.archive.qd_score
        if not len(genes):
            return float("nan")
        objective, measures, problems = self._checked(genes, measure(genes))
        is_good = np.array([not problem for problem in problems])
        self.evaluations_again += len(genes)
        self._count(problems, self.archive.are_out_of_range(measures[is_good]))
        self.archive.replace(genes[is_good], objective[is_good], measures[is_good])
        return self.archive.qd_score / before if before else float("nan")

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return archive, emitters, generators and counters, as tensors and plain types."""
        asked = None if self._asked is None else [torch.from_numpy(part.copy()) for part in self._asked]
        return {
            "cells": list(self.archive.grid.cells),
            "ranges": [[float(low), float(high)] for low, high in self.archive.grid.ranges],
            "num_genes": self.archive.num_genes,
            "ribs": get_plain_state(self._ribs),
            "rng": self._rng.bit_generator.state,
            "asked": asked,
            "problems": dict(self.problems),
            "counts": {name: getattr(self, name) for name in _COUNTS},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`, bit for bit.

        Raises:
            ValueError: The state is of another archive, or of other emitters.
        """
        grid = self.archive.grid
        here = {
            "cells": list(grid.cells),
            "ranges": [[float(low), float(high)] for low, high in grid.ranges],
            "num_genes": self.archive.num_genes,
        }
        for name, value in here.items():
            if state[name] != value:
                raise ValueError(f"the saved archive has {name} = {state[name]}, this one {value}")
        set_plain_state(self._ribs, state["ribs"])
        self._rng.bit_generator.state = state["rng"]
        self._asked = None if state["asked"] is None else [part.numpy().copy() for part in state["asked"]]
        self.problems = Counter(state["problems"])
        for name in _COUNTS:
            setattr(self, name, state["counts"][name])


_COUNTS = ("evaluations", "generations", "failed", "out_of_range", "evaluations_again")


def random_search(grid: Grid, num_genes: int, *, batch_size: int = 64, seed: int = 0) -> Search:
    """Make a search that only draws bodies, to compare with at equal evaluations."""
    return Search(grid, num_genes, batch_size=batch_size, num_initial=0, seed=seed, emitters=lambda *_: [])


def corrected(archive: Archive, measure: Callable[[np.ndarray], Measured]) -> Archive:
    """Measure all elites afresh, and put them into an empty archive of the same cells.

    ``measure`` should use other episodes than the search did: an archive keeps who was lucky.
    """
    fresh = Archive(archive.grid, archive.num_genes)
    genes = archive.genes
    if len(genes):
        measured = measure(genes)
        objective, measures = np.asarray(measured.objective), np.asarray(measured.measures)
        found = fresh.find_problems(genes, objective, measures)
        given = measured.problems or [""] * len(genes)
        is_good = np.array([not (told or seen) for told, seen in zip(given, found, strict=True)])
        fresh.add(genes[is_good], objective[is_good], measures[is_good])
    return fresh


def num_kept(status: np.ndarray) -> tuple[int, int]:
    """Count the bodies that are new in their cell, and those that are better than the one before."""
    return int((status == NEW).sum()), int((status == BETTER).sum())
