"""Searches for good and different bodies while one shared policy trains in them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl import metrics
from lit_rl.arguments import Count, Positive, Range, Seed, Steps, check_arguments
from lit_rl.callbacks.trainer.attributes import data_module, exit_code_of_signal, is_dry_run
from lit_rl.files import write_json
from lit_rl.qd.archive import Archive
from lit_rl.qd.bodies import BeginsAnew, MeasuresBodies
from lit_rl.qd.picture import draw_archive
from lit_rl.qd.search import Measured, Search, TooManyFailures, corrected, num_kept, random_search
from lit_rl.types import Learner, as_learner

_log = logging.getLogger("lit_rl")

FOLDER, TABLE, PICTURE, SUMMARY, CELLS, FILM = (
    "map_elites", "archive.csv", "archive.png", "summary.json", "archive.json", "best.gif"
)  # fmt: skip
FRESH = 1_000_003
"""Number of the episodes on which the archive is corrected."""


class MapElites(Callback):
    """Keeps an archive of bodies: asks for some, measures them with the policy as it is, and keeps the best.

    While training goes on, there is a generation every ``every_batches`` batches, and the data module takes
    bodies to train on from the elites. Every ``remeasure_every`` generations all elites are measured again,
    because the policy has moved. What is left of ``generations`` follows at the end of training, with the
    finished policy; with ``training=pretrained`` of the data module that is all of them. Then the elites are
    measured on other episodes (the corrected archive), and random search gets as many evaluations.

    With ``training=independent`` of the data module the bodies of a generation are trained first, for
    ``every_batches`` batches and each with its own policy, and measured then. These policies are forgotten
    with the generation: elites are not measured again, their corrected fitness is measured at once, and
    random search is not compared, which would have to train as much.

    Into ``map_elites/`` of the run directory it writes ``archive.csv``, as pyribs reads it, ``archive.png``,
    ``summary.json``, and ``archive.json``, from which the report draws the body of each cell; with ``render``
    also ``best.gif``. Its state is part of checkpoints, and continues bit for bit.

    Args:
        generations: Generations of the whole run.
        batch_size: Bodies in a generation.
        num_initial: Random bodies at first; None takes one generation.
        iso_sigma: Random change of every gene.
        line_sigma: Change along the line to another elite, as a share of their distance.
        every_batches: Batches of training between two generations (``independent``: of each generation).
        remeasure_every: Generations between two measurements of all elites; more costs less time, and keeps
            fitness that the policy of today no longer has.
        compare: Whether random search is played at the end, at equal evaluations.
        seed: Seed of the search.
        archive: Table ``archive.csv`` of another run, whose bodies are the first elites; they are measured
            before training, with the policy as it is. None begins with none.
        render: Whether the last thing written is ``best.gif``, an episode of the best body.

    Raises:
        MisconfigurationException: A number is not positive, the data module measures no bodies, ``archive``
            is of others, or more than 20 % of the bodies of a generation failed.
        TypeError: The module is no learner.
    """

    _learner: Learner
    _data: MeasuresBodies

    def __init__(
        self,
        generations: Count = 120,
        batch_size: Steps = 64,
        num_initial: Annotated[int, Range(at_least=0, at_most=10**8)] | None = None,
        iso_sigma: Positive = 0.1,
        line_sigma: Positive = 0.2,
        every_batches: Count = 5,
        remeasure_every: Count = 10,
        compare: bool = True,
        seed: Seed = 0,
        archive: str | None = None,
        render: bool = False,
    ) -> None:
        check_arguments(MapElites, locals())
        self.generations, self.every_batches, self.remeasure_every = (
            generations,
            every_batches,
            remeasure_every,
        )
        self.compare, self.seed, self.render, self._batch_size = compare, seed, render, batch_size
        self._arguments = {
            "batch_size": batch_size,
            "num_initial": num_initial,
            "iso_sigma": iso_sigma,
            "line_sigma": line_sigma,
            "seed": seed,
        }
        self.archive = archive
        self.search: Search | None = None
        self._saved: dict[str, Any] | None = None
        self._summary: dict[str, float] = {}
        self._compared: dict[str, Archive] = {}
        self._fresh: dict[bytes, float] = {}  # corrected fitness of elites whose policies are gone

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner, and data without bodies."""
        self._learner = as_learner(pl_module, "MapElites")
        data: object = data_module(trainer)
        if not isinstance(data, MeasuresBodies):
            raise MisconfigurationException(
                "MapElites needs a data module that measures bodies, such as MorphologyDataModule, got "
                f"{type(data).__name__}"
            )
        self._data = data
        self._is_independent = data.training == "independent"
        if self._is_independent and not isinstance(pl_module, BeginsAnew):
            raise MisconfigurationException(
                "MapElites: training = independent needs a policy for each body, as PopulationPPO has, got "
                f"{type(pl_module).__name__}"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with an empty archive, or go on with that of the checkpoint or of the last fit."""
        if self.search is None or (self._saved is None and not self._learner.env_steps):
            try:
                self.search = Search(self._data.grid, self._data.num_genes, **self._arguments)
            except ValueError as error:
                raise MisconfigurationException(f"MapElites: {error}") from error
            if self._saved is None and self.archive is not None:
                self._begin_with(self.search, Path(self.archive))
        if self._saved is not None:
            try:
                self.search.load_state_dict(self._saved)
            except ValueError as error:
                raise MisconfigurationException(f"MapElites: {error}") from error
            self._saved = None
        if self._is_independent:
            self._train_asked(self.search)

    def _begin_with(self, search: Search, path: Path) -> None:
        """Take the elites of a table, and measure them.

        Raises:
            MisconfigurationException: It cannot be read, is of other genes or cells, or its bodies fail.
        """
        try:
            search.archive.load_csv(path)
            search.remeasure(self._measure)
        except OSError as error:
            raise MisconfigurationException(
                f"MapElites: archive = {path} cannot be read ({error.strerror or error})"
            ) from error
        except (ValueError, TooManyFailures) as error:
            raise MisconfigurationException(f"MapElites: archive: {error}") from error
        self._data.train_on(search.archive.genes)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Search for one generation when it is time."""
        search, learner = self._started(), self._learner
        waits = self._data.training == "pretrained" or learner.env_steps < self._data.pretrain_env_steps
        if not waits and learner.policy_version % self.every_batches == 0 and self._left > 0:
            self._generation(search)
            if not self._is_independent:
                self._data.train_on(search.archive.genes)
            elif self._left > 0:
                self._learner.begin_anew()  # type: ignore[attr-defined]  # checked when the fit started
                self._train_asked(search)
        if learner.policy_version % self.every_batches == 0:
            entropy, distance = self._data.diversity()
            learner.log_values({metrics.QD_ENTROPY: entropy, metrics.QD_GENE_DISTANCE: distance})

    @property
    def _left(self) -> int:
        """Generations still to come."""
        return self.generations - self._started().generations

    def _started(self) -> Search:
        if self.search is None:
            raise RuntimeError("MapElites has no archive before training starts")
        return self.search

    def _measure(self, genes: Any) -> Measured:
        return self._data.measure(genes)

    def _generation(self, search: Search) -> None:
        """Ask, measure, tell and log; the elites again when it is time.

        Raises:
            MisconfigurationException: More than 20 % of the bodies failed.
        """
        try:
            genes = search.ask()
            if self._is_independent:
                self._measure_fresh(genes)
            status = search.tell(self._measure(genes))
            new, better = num_kept(status)
            values = {metrics.QD_NEW: float(new), metrics.QD_BETTER: float(better)}
            if search.generations % self.remeasure_every == 0 and not self._is_independent:
                values[metrics.QD_DRIFT] = search.remeasure(self._measure)
        except TooManyFailures as error:
            raise MisconfigurationException(f"MapElites: {error}") from error
        self._learner.log_values(values | self._archive_values())

    def _train_asked(self, search: Search) -> None:
        """Train the bodies of the next generation, each with a policy of its own.

        Raises:
            MisconfigurationException: They are more than there are policies.
        """
        try:
            self._data.train_on(search.ask())
        except ValueError as error:
            raise MisconfigurationException(f"MapElites: {error}") from error

    def _measure_fresh(self, genes: np.ndarray) -> None:
        """Keep how good bodies are on other episodes, while their policies are there."""
        objective = np.asarray(self._data.measure(genes, fresh=FRESH).objective)
        for row, fitness in zip(genes, objective.tolist(), strict=True):
            self._fresh[row.tobytes()] = fitness

    def _measured_fresh(self, genes: np.ndarray) -> Measured:
        """Measure bodies on other episodes, or recall how they were measured with policies that are gone."""
        if not self._is_independent:
            return self._data.measure(genes, fresh=FRESH)
        kept = self._started().archive.data()
        return Measured(np.array([self._fresh[row.tobytes()] for row in genes]), kept["measures"])

    def _archive_values(self) -> dict[str, float]:
        search = self._started()
        return {
            metrics.QD_SCORE: search.archive.qd_score,
            metrics.QD_COVERAGE: search.archive.coverage,
            metrics.QD_BEST: search.archive.best,
            metrics.QD_MEAN: search.archive.mean,
            metrics.QD_EVALUATIONS: float(search.evaluations),
            metrics.QD_FAILED: float(search.failed),
        }

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finish the search with the finished policy, compare, and write; a signal skips to the writing."""
        search = self._started()
        if is_dry_run(trainer):
            return
        if exit_code_of_signal(trainer) is None:
            while self._left > 0 and not self._is_independent:
                self._generation(search)
            self._compare(search)
        self._write(trainer)

    def _compare(self, search: Search) -> None:
        """Measure all elites as they are now and on other episodes, and let random search try as often."""
        try:
            if not self._is_independent:
                search.remeasure(self._measure)
        except TooManyFailures as error:
            raise MisconfigurationException(f"MapElites: {error}") from error
        summary = {"qd_score": search.archive.qd_score, "coverage": search.archive.coverage}
        fresh = corrected(search.archive, self._measured_fresh)
        self._compared = {"corrected": fresh}
        summary["corrected_qd_score"] = fresh.qd_score
        if self.compare and not self._is_independent:
            other = random_search(
                self._data.grid, self._data.num_genes, batch_size=self._batch_size, seed=self.seed
            )
            while other.evaluations < search.evaluations:
                other.tell(self._measure(other.ask()))
            summary["random_qd_score"] = other.archive.qd_score
            fresh_random = corrected(other.archive, self._measured_fresh)
            summary["random_corrected_qd_score"] = fresh_random.qd_score
            self._compared |= {"random": other.archive, "random_corrected": fresh_random}
        self._learner.log_values({metrics.QD_CORRECTED: fresh.qd_score, **self._archive_values()})
        self._summary = summary

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what was found until then."""
        if self.search is not None and not is_dry_run(trainer):
            self._write(trainer)

    def _write(self, trainer: Trainer) -> None:
        """Write table, picture and summary; what cannot be written is warned of."""
        if not trainer.is_global_zero:
            return
        search, folder = self._started(), Path(trainer.default_root_dir) / FOLDER
        entropy, distance = self._data.diversity()
        summary: dict[str, Any] = {
            "training": self._data.training,
            "env_steps": self._learner.env_steps,
            "cells": list(search.archive.grid.cells),
            "ranges": [list(pair) for pair in search.archive.grid.ranges],
            "measures": list(search.archive.grid.names),
            "offset": search.archive.grid.offset,
            "generations": search.generations,
            "evaluations": search.evaluations,
            "evaluations_again": search.evaluations_again,
            "failed": search.failed,
            "problems": dict(search.problems),
            "out_of_range": search.out_of_range,
            "num_elites": len(search.archive),
            "qd_score": search.archive.qd_score,
            "body_entropy": entropy,
            "gene_distance": distance,
            **self._summary,
        }
        cells = {name: summary[name] for name in ("measures", "cells", "ranges", "offset")}
        cells |= {name: archive.cells() for name, archive in self._compared.items()}
        genes = search.archive.genes
        bodies = self._data.describe(genes) if len(genes) else []
        cells["archive"] = search.archive.cells() | {"bodies": bodies}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            search.archive.save_csv(folder / TABLE)
            write_json(folder / SUMMARY, summary)
            write_json(folder / CELLS, cells)
            draw_archive(search.archive, folder / PICTURE)
            if self.render and len(genes):
                best = int(search.archive.data()["objective"].argmax())
                self._data.film(genes[best], folder / FILM)
        except OSError as error:
            _log.warning("MapElites: %s cannot be written (%s)", folder, error.strerror or error)

    def state_dict(self) -> dict[str, Any]:
        """Archive, emitters, generators and counters, as tensors and plain types."""
        if self._saved is not None:  # saved again before training started
            return {"search": self._saved}
        state = None if self.search is None else self.search.state_dict()
        if not self._fresh or self.search is None:
            return {"search": state}
        genes = self.search.archive.genes
        fresh = torch.tensor([self._fresh[row.tobytes()] for row in genes], dtype=torch.float64)
        return {"search": state, "fresh": {"genes": torch.from_numpy(genes), "objective": fresh}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state until training starts, when the cells are known."""
        self._saved = state_dict["search"]
        kept = state_dict.get("fresh", {"genes": torch.zeros(0, 1), "objective": torch.zeros(0)})
        rows = zip(kept["genes"].numpy(), kept["objective"].tolist(), strict=True)
        self._fresh = {row.tobytes(): fitness for row, fitness in rows}
