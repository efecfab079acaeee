"""The best body of each cell: pyribs' archive, with what it accepts silently refused or counted."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ribs.archives import GridArchive

from lit_rl.files import write_text
from lit_rl.qd.grid import Grid

LOST, BETTER, NEW = 0, 1, 2
"""What became of a body: not kept, better than the one in its cell, or the first one in its cell."""


class Archive:
    """Keeps genes, objective and measures of the best body of each cell.

    Args:
        grid: The cells.
        num_genes: Numbers in a genotype.
        seed: Seed of the elites that are drawn.

    Raises:
        ValueError: ``num_genes`` is not positive.
    """

    def __init__(self, grid: Grid, num_genes: int, seed: int = 0) -> None:
        if num_genes < 1:
            raise ValueError(f"num_genes must be at least 1, got {num_genes}")
        self.grid, self.num_genes = grid, num_genes
        self.ribs = GridArchive(
            solution_dim=num_genes,
            dims=list(grid.cells),
            ranges=[(float(low), float(high)) for low, high in grid.ranges],
            qd_score_offset=grid.offset,
            seed=seed,
        )
        for field in vars(self.ribs)["_store"].__dict__["_fields"].values():
            field[:] = 0  # unused memory would make equal archives differ in checkpoints

    def __len__(self) -> int:
        return len(self.ribs)

    # What is in it

    @property
    def genes(self) -> np.ndarray:
        """Genes of the elites, ``(elites, genes)`` in the order of their cells."""
        return self.data()["solution"]

    def data(self) -> dict[str, np.ndarray]:
        """Return ``solution``, ``objective``, ``measures`` and ``index`` of the elites, sorted by cell."""
        found: Mapping[str, np.ndarray] = self.ribs.data(["solution", "objective", "measures", "index"])
        order = np.argsort(found["index"])
        return {name: np.asarray(values)[order] for name, values in found.items()}

    @property
    def qd_score(self) -> float:
        """Sum of all objectives above the offset; added up afresh, so that rounding does not pile up."""
        return float((self.data()["objective"] - self.grid.offset).sum())

    @property
    def coverage(self) -> float:
        """Share of cells that have an elite."""
        return len(self) / self.grid.num_cells

    @property
    def best(self) -> float:
        """Highest objective; NaN in an empty archive."""
        return float(self.data()["objective"].max()) if len(self) else float("nan")

    @property
    def mean(self) -> float:
        """Mean objective of the elites; NaN in an empty archive."""
        return float(self.data()["objective"].mean()) if len(self) else float("nan")

    def cells(self) -> dict[str, list[float]]:
        """Return ``index`` and ``objective`` of the elites in plain types, sorted by cell."""
        data = self.data()
        return {"index": data["index"].tolist(), "objective": data["objective"].tolist()}

    # What goes in

    def find_problems(self, genes: np.ndarray, objective: np.ndarray, measures: np.ndarray) -> list[str]:
        """Say of each body why it cannot be kept; "" where it can.

        pyribs refuses a whole batch for one objective that is not finite, and keeps genes that are not.
        """
        problems = np.full(len(genes), "", object)
        for name, values in (("genes", genes), ("objective", objective), ("measures", measures)):
            bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim))) & (problems == "")
            problems[bad] = f"{name} are not finite"
        return problems.tolist()

    def are_out_of_range(self, measures: np.ndarray) -> np.ndarray:
        """Tell which measures ``(bodies, measures)`` lie outside the cells, and so count to the border."""
        low, high = np.array(self.grid.ranges, np.float64).T
        return ((measures < low) | (measures > high)).any(1)

    def add(self, genes: np.ndarray, objective: np.ndarray, measures: np.ndarray) -> np.ndarray:
        """Keep each body that is better than the one in its cell; equal ones do not replace it.

        Returns:
            ``(bodies,)`` of ``LOST``, ``BETTER`` or ``NEW``.

        Raises:
            ValueError: A shape differs, or a number is not finite.
        """
        return self.add_info(genes, objective, measures)["status"].astype(np.int64)

    def add_info(
        self, genes: np.ndarray, objective: np.ndarray, measures: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Do what :meth:`add` does, and return all that pyribs says of it (``status`` and ``value``).

        Raises:
            ValueError: A shape differs, or a number is not finite.
        """
        genes, objective, measures = (np.asarray(given, np.float64) for given in (genes, objective, measures))
        expected = (len(genes), self.num_genes), (len(genes),), (len(genes), len(self.grid.cells))
        got = genes.shape, objective.shape, measures.shape
        if expected != got:
            raise ValueError(f"genes, objective and measures must have shapes {expected}, got {got}")
        for row, problem in enumerate(self.find_problems(genes, objective, measures)):
            if problem:
                raise ValueError(f"body {row} cannot be kept: its {problem}")
        if not len(genes):
            return {"status": np.zeros(0, np.int64), "value": np.zeros(0)}
        return dict(self.ribs.add(genes, objective, measures))

    def replace(self, genes: np.ndarray, objective: np.ndarray, measures: np.ndarray) -> None:
        """Empty the archive and fill it with these bodies, such as the old elites as they are now.

        Raises:
            ValueError: A shape differs, or a number is not finite; the archive is then as it was.
        """
        other = Archive(self.grid, self.num_genes)
        other.add(genes, objective, measures)
        self.ribs.clear()
        self.add(genes, objective, measures)

    # Files

    def save_csv(self, path: Path) -> None:
        """Write the elites as pyribs names its columns; numbers read back as they are, bit for bit.

        Raises:
            OSError: It cannot be written.
        """
        data, table = self.data(), io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(self._columns())
        for row, index in enumerate(data["index"].tolist()):
            parts = (
                np.atleast_1d(data[name][row]).tolist() for name in ("solution", "objective", "measures")
            )
            writer.writerow([*(repr(number) for part in parts for number in part), index])
        write_text(path, table.getvalue())

    def load_csv(self, path: Path) -> None:
        """Replace the elites by those of a file that :meth:`save_csv` or pyribs wrote.

        Raises:
            ValueError: The file is of an archive with other genes, measures or cells, or is torn.
            OSError: It cannot be read.
        """
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())
            missing = [name for name in self._columns() if name not in columns]
            more = [name for name in columns if name not in (*self._columns(), "threshold")]
            if missing or more:
                raise ValueError(
                    f"{path.name} is of another archive: this one has {self.num_genes} genes and the "
                    f"measures {', '.join(self.grid.names)}; columns missing: "
                    f"{', '.join(missing) or 'none'}, unknown: {', '.join(more) or 'none'}"
                )
            try:
                lines = [[float(row[name]) for name in self._columns()] for row in reader]
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path.name} is torn: line {reader.line_num} is not all numbers") from error
        rows = np.array(lines, np.float64).reshape(-1, len(self._columns()))
        ends = np.cumsum([self.num_genes, 1, len(self.grid.cells)])
        genes, objective, measures, cell = np.split(rows, ends, 1)
        if not np.isfinite(rows).all():
            raise ValueError(f"{path.name} has numbers that are not finite")
        if len(rows) and not np.array_equal(self.ribs.index_of(measures), cell[:, 0]):
            raise ValueError(
                f"{path.name} is of another archive: its measures do not lie in the cells that it names, "
                f"with cells {list(self.grid.cells)} "
                f"and ranges {[list(pair) for pair in self.grid.ranges]} here"
            )
        self.replace(genes, objective[:, 0], measures)

    def _columns(self) -> list[str]:
        genes = [f"solution_{i}" for i in range(self.num_genes)]
        return [*genes, "objective", *(f"measures_{i}" for i in range(len(self.grid.cells))), "index"]
