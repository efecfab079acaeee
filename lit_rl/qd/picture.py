"""The archive as a heat map: two measures as axes, one panel for each cell of the first measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_rl.files import replacing
from lit_rl.qd.archive import Archive


def draw_archive(archive: Archive, path: Path) -> None:
    """Draw the objective of every cell of an archive with three measures into a PNG.

    Raises:
        ValueError: The archive has another number of measures.
        OSError: It cannot be written.
    """
    from matplotlib.figure import Figure

    grid = archive.grid
    if len(grid.cells) != 3:
        raise ValueError(f"draw_archive needs three measures, got {len(grid.cells)}")
    data = archive.data()
    values = np.full(grid.num_cells, np.nan)
    values[data["index"]] = data["objective"]
    values = values.reshape(grid.cells)
    low, high = (archive.mean, archive.best) if len(archive) else (0.0, 1.0)
    low = min(low, float(data["objective"].min())) if len(archive) else low
    figure = Figure(figsize=(2.6 * grid.cells[0] + 1.2, 3.4), layout="constrained")
    axes = figure.subplots(1, grid.cells[0], sharey=True, squeeze=False)[0]
    (first_low, first_high), *ranges = grid.ranges
    width = (first_high - first_low) / grid.cells[0]
    mesh = None
    for k, axis in enumerate(axes):
        edges = [
            np.linspace(pair[0], pair[1], cells + 1)
            for pair, cells in zip(ranges, grid.cells[1:], strict=True)
        ]
        mesh = axis.pcolormesh(*edges, values[k].T, vmin=low, vmax=high, cmap="viridis", edgecolors="none")
        middle = first_low + (k + 0.5) * width
        num = int(np.isfinite(values[k]).sum())
        axis.set_title(f"{middle:g} {_words(grid.names[0])}: {num} elites", fontsize=9)
        axis.set_xlabel(_words(grid.names[1]))
        axis.set_facecolor("0.93")
    axes[0].set_ylabel(_words(grid.names[2]))
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, label="objective")
    with replacing(path) as beside:
        figure.savefig(beside, dpi=120, format="png")


def _words(name: str) -> str:
    """Write the name of a measure as words, its unit in brackets."""
    stem, _, unit = name.rpartition("_")
    return f"{stem.replace('_', ' ')} ({unit})" if stem and len(unit) == 1 else name.replace("_", " ")
