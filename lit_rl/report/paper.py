"""Figures and a table for a paper, over several runs: interquartile means with bootstrap intervals."""

from __future__ import annotations

import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lit_rl import metrics
from lit_rl.files import replacing, write_text
from lit_rl.report.curves import on_grid
from lit_rl.report.latex import Row, latex_table
from lit_rl.report.runs import Group, Run, group_runs, read_run
from lit_rl.report.statistics import stratified_bootstrap
from lit_rl.report.words import PLAYED, plural

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette, told apart by colour-blind readers; dashes tell lines apart without colour."""
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)))
STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "pdf.fonttype": 42,  # whole TrueType fonts: publishers refuse Type 3
    "text.parse_math": False,  # a name is no formula, whatever dollars it holds
}
WIDTH_IN, HEIGHT_IN = 3.4, 2.2
"""One column of a two-column page, in inches."""

CURVES = {metrics.EPISODE_RETURN: "training_return", metrics.EVAL_RETURN: "evaluation_return"}
"""What is drawn, and how the names of its files begin."""


def write_paper(runs: Sequence[Path], out: Path) -> list[Path]:
    """Write figures (PDF, PNG) and ``table.tex`` about ``runs`` into the folder ``out``.

    Learning curves for each environment, a comparison of final returns where it has several configurations,
    and the table over all.

    Returns:
        The files written.

    Raises:
        ValueError: Two runs of one configuration have the same seed, or a run has no return, or one that is
            not finite.
        OSError: A file cannot be written.
    """
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        return _write(group_runs([read_run(run) for run in runs]), out)


def _write(groups: Sequence[Group], out: Path) -> list[Path]:
    refuse_equal_seeds(groups)
    name = _score_name(groups)
    rows = [_row(group, name) for group in groups]
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for environment in dict.fromkeys(group.environment for group in groups):
        members = [group for group in groups if group.environment == environment]
        end = re.sub(r"[^\w.-]+", "_", environment)
        for metric, stem in CURVES.items():
            if any(run.series(metric) for group in members for run in group.runs):
                label = f"Return ({_whose(metric, members)})"
                written += _draw_curves(out / f"{stem}_{end}", members, metric, label)
        if len(members) > 1:
            own = [row for row in rows if row.environment == environment]
            written += _draw_final(out / f"final_return_{end}", own, f"Return ({_whose(name, members)})")
    table = out / "table.tex"
    episodes = "last 100 training episodes"
    of_what = f"of the {_whose(name, groups) if name == metrics.EVAL_RETURN else episodes}"
    write_text(table, latex_table(rows, of_what))
    return [*written, table]


def _whose(metric: str, groups: Sequence[Group]) -> str:
    """Say whose return it is: ``training``, or which policy the evaluations of all these runs played."""
    if metric == metrics.EPISODE_RETURN:
        return "training"
    played = {PLAYED.get(run.eval_policy, run.eval_policy) for group in groups for run in group.runs}
    return played.pop() if len(played) == 1 else "policy evaluated"


def refuse_equal_seeds(groups: Sequence[Group]) -> None:
    """Refuse a run that is given twice (one configuration, one seed): intervals would be too narrow.

    Raises:
        ValueError: Names the two runs.
    """
    for group in groups:
        first: dict[str, Run] = {}
        for run in group.runs:
            other = first.setdefault(run.seed, run)
            if other is not run and run.is_seeded:
                raise ValueError(
                    f"runs of {group.label} must have different seeds, but {other.path} and {run.path} both "
                    f"have seed {run.seed}: leave one of them out"
                )


def _score_name(groups: Sequence[Group]) -> str:
    """Choose what is compared: the return in evaluations where every run has it, else that of training.

    Raises:
        ValueError: A run has neither.
    """
    runs = [run for group in groups for run in group.runs]
    for name in (metrics.EVAL_RETURN, metrics.EPISODE_RETURN):
        if all(run.series(name) for run in runs):
            return name
    without = next(run for run in runs if not run.series(metrics.EPISODE_RETURN))
    raise ValueError(f"run {without.path} has no episode that ended, so there is no return: leave it out")


def _row(group: Group, name: str) -> Row:
    scores = np.array([run.last(name) for run in group.runs], dtype=float)
    for run, score in zip(group.runs, scores, strict=True):
        if not np.isfinite(score):
            raise ValueError(
                f"the last {name} of run {run.path} is {score}, not a finite number: leave it out"
            )
    return Row(
        environment=group.environment,
        method=group.method,
        scores=scores,
        interval=stratified_bootstrap([scores], num_resamples=10_000),
        env_steps=[run.env_steps for run in group.runs],
    )


def _draw_curves(path: Path, groups: Sequence[Group], metric: str, label: str) -> list[Path]:
    """Draw the interquartile mean over the runs of each group, with its interval, where all have values."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    with _figure(path, len(groups)) as (axes, written):
        for number, group in enumerate(groups):
            curves = [series for run in group.runs if (series := run.series(metric)) is not None]
            if not curves:
                continue
            steps, values = on_grid(curves)
            is_common = np.isfinite(values).all(axis=0)
            if not is_common.any():
                continue
            center, low, high = stratified_bootstrap([values[:, is_common]])
            color, dash = COLORS[number % len(COLORS)], DASHES[number % len(DASHES)]
            axes.plot(
                steps[is_common], center, color=color, linestyle=dash, label=_legend(group, len(curves))
            )
            axes.fill_between(steps[is_common], low, high, color=color, alpha=0.2, linewidth=0)
        axes.set_xlabel("Environment steps")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.margins(x=0.01)
    return written


def _draw_final(path: Path, rows: Sequence[Row], label: str) -> list[Path]:
    """Draw final returns: the interquartile mean, its interval, and each run as a dot."""
    names = [row.method.replace(", ", ",\n") for row in rows]
    height_in = 0.6 + sum(0.12 + 0.13 * len(name.splitlines()) for name in names)
    with _figure(path, 0, height_in) as (axes, written):
        for number, row in enumerate(rows):
            color = COLORS[number % len(COLORS)]
            axes.plot(
                row.scores, np.full(len(row.scores), number), "o", color=color, alpha=0.35, markersize=3
            )
            axes.hlines(number, row.interval.low, row.interval.high, color=color, linewidth=1.5)
            axes.plot(row.interval.center, number, "|", color=color, markersize=9, markeredgewidth=1.5)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlabel(label)
        axes.grid(visible=False, axis="y")
    return written


@contextmanager
def _figure(path: Path, legend_lines: int, height_in: float = HEIGHT_IN) -> Iterator[tuple[Axes, list[Path]]]:
    """Give axes of one column's width; afterwards put the legend below, and write PDF and PNG.

    Yields:
        The axes, and a list that holds the two files afterwards.
    """
    import matplotlib.style  # half a second, for this command only
    from matplotlib.figure import Figure

    written: list[Path] = []
    with matplotlib.style.context(["default", STYLE]):
        figure = Figure(figsize=(WIDTH_IN, height_in + 0.16 * legend_lines), layout="constrained")
        axes = figure.subplots()
        yield axes, written
        if legend_lines and axes.lines:
            figure.legend(loc="outside lower center", handlelength=2.6)
        written += [path.with_name(path.name + suffix) for suffix in (".pdf", ".png")]
        with replacing(written[0]) as beside:
            figure.savefig(beside, format="pdf", metadata={"CreationDate": None})
        with replacing(written[1]) as beside:
            figure.savefig(beside, format="png", dpi=300)


def _legend(group: Group, num_runs: int) -> str:
    return textwrap.fill(f"{group.method} ({plural(num_runs, 'run')})", 58, break_on_hyphens=False)
