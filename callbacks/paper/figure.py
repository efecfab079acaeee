"""Draws the progress of a training run from its exported rows: ``python -m lit_rl.callbacks.paper.figure``.

Six panels, 300 dots per inch, as wide as two columns of a paper, in colours that colour-blind readers tell
apart (Okabe 2008). It imports no torch and reads only files, so it can be drawn again at any time.

Axes: X points.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter, MaxNLocator

from lit_rl.callbacks.paper.files import EPISODES, FIGURE, SYNC, file_name, read_columns
from lit_rl.files import replacing
from lit_rl.processes import yield_to_the_trainer

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#999999"
MAX_POINTS = 1500
"""Points of a curve at most: more than a panel has pixels beside each other."""
SHORT, LONG, UPDATES = 50, 100, 10
"""Episodes of the two moving windows, and updates of the one of the efficiency."""
MAX_S = 120
"""Seconds after which the process ends itself, should nobody else end it."""

_STYLE: dict[Any, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8,
    "axes.labelsize": 7.5,
    "legend.fontsize": 6.5,
    "legend.facecolor": "white",
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.handlelength": 1.4,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.1,
}


def moving_statistics(values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and sample standard deviation of the last ``window`` values at each point.

    Args:
        values: ``(X,)``.
        window: Number of values; the first points have fewer.

    Returns:
        Means ``(X,)`` and standard deviations ``(X,)``, 0 where there is one value only.
    """
    offset = values.mean() if len(values) else 0.0  # the squares of large means would swallow the variance
    stop = np.arange(1, len(values) + 1)
    begin = np.maximum(0, stop - window)
    sums, squares = (np.concatenate([[0.0], ((values - offset) ** power).cumsum()]) for power in (1, 2))
    count = stop - begin
    total = sums[stop] - sums[begin]
    rest = squares[stop] - squares[begin] - total**2 / count
    std = np.sqrt(np.maximum(rest, 0.0) / np.maximum(count - 1, 1))
    return total / count + offset, np.where(count > 1, std, 0.0)


def thin_out(num_points: int) -> np.ndarray:
    """Indices of at most ``MAX_POINTS`` points, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, max(num_points - 1, 0), min(num_points, MAX_POINTS)).astype(int))


def draw(directory: Path, step: int) -> Path:
    """Draw what was exported to ``directory`` up to env step ``step``; returns the PNG, complete.

    Raises:
        OSError: A file cannot be read or written.
    """
    episodes = read_columns(directory, EPISODES, step)
    by_time = np.argsort(episodes["timestamp"], kind="stable")  # the rows of all ranks
    reward, length = episodes["total_reward"][by_time], episodes["episode_length"][by_time]
    updates = read_columns(directory, SYNC, step)
    updates = {name: column[updates["rank"] == 0] for name, column in updates.items()}
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(7.16, 4.3), layout=ConstrainedLayoutEngine(w_pad=0.06))
        panels = figure.subplots(2, 3).ravel()
        _draw_episodes(panels[0], reward, "Episode reward", "total reward", BLUE)
        _draw_histogram(panels[1], reward)
        _draw_episodes(panels[2], length, "Episode length", "length (env steps)", GREEN)
        _draw_spread(panels[3], reward)
        _draw_efficiency(panels[4], updates)
        _draw_version(panels[5], updates)
        for letter, panel in zip("abcdef", panels, strict=True):
            panel.set_title(f"({letter}) {panel.get_title()}", loc="left")
            panel.set_title("")
        path = directory / file_name(FIGURE, step, ".png")
        with replacing(path) as beside:
            figure.savefig(beside, format="png", dpi=300)
    return path


def _draw_episodes(panel: Axes, values: np.ndarray, title: str, unit: str, color: str) -> None:
    """One value per episode, and its moving mean."""
    panel.set(title=title, xlabel="episode", ylabel=unit)
    if not _prepare(panel, len(values), "episode"):
        return
    mean, _ = moving_statistics(values, SHORT)
    _draw_points(panel, values)
    _draw_line(panel, np.arange(1, len(values) + 1), mean, color, f"mean of last {SHORT}")
    _put_legend(panel)


def _draw_histogram(panel: Axes, reward: np.ndarray) -> None:
    panel.set(title="Reward distribution", xlabel="total reward", ylabel="episodes")
    if not len(reward):
        _prepare(panel, 0, "episode")
        return
    panel.hist(reward, bins=min(40, max(5, int(np.sqrt(len(reward))))), color=BLUE, alpha=0.75, linewidth=0)
    panel.axvline(float(np.median(reward)), color=ORANGE, label=f"median {np.median(reward):.4g}")
    panel.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    _put_legend(panel)


def _draw_spread(panel: Axes, reward: np.ndarray) -> None:
    panel.set(title=f"Reward of last {LONG} episodes", xlabel="episode", ylabel="total reward")
    if not _prepare(panel, len(reward), "episode"):
        return
    mean, std = moving_statistics(reward, LONG)
    shown = thin_out(len(reward))
    band = (mean - std)[shown], (mean + std)[shown]
    panel.fill_between(shown + 1, *band, color=BLUE, alpha=0.2, linewidth=0, label="± standard deviation")
    _draw_line(panel, np.arange(1, len(reward) + 1), mean, BLUE, "mean")
    _put_legend(panel)


def _draw_efficiency(panel: Axes, updates: dict[str, np.ndarray]) -> None:
    panel.set(title="Sync efficiency", xlabel="policy version", ylabel="env steps / s")
    efficiency, version = updates["sync_efficiency"], updates["policy_version"]
    if not _prepare(panel, len(version), "update"):
        return
    mean, _ = moving_statistics(efficiency, UPDATES)
    shown = thin_out(len(version))
    panel.plot(
        version[shown], efficiency[shown], ".", color=GREY, markersize=1.5, label=_shown("update", version)
    )
    _draw_line(panel, version, mean, ORANGE, f"mean of last {UPDATES}")
    panel.set_ylim(bottom=0)
    panel.yaxis.set_major_formatter(EngFormatter(sep=""))
    _put_legend(panel)


def _draw_version(panel: Axes, updates: dict[str, np.ndarray]) -> None:
    panel.set(title="Policy version", xlabel="env steps", ylabel="policy version (updates)")
    if not _prepare(panel, len(updates["policy_version"]), "update"):
        return
    env_steps = updates["samples_collected"].cumsum()
    _draw_line(panel, env_steps, updates["policy_version"], BLUE, None)
    panel.yaxis.set_major_formatter(EngFormatter(sep=""))


def _prepare(panel: Axes, num_points: int, what: str) -> bool:
    """Short numbers on the x-axis, or words where there is nothing to draw."""
    if not num_points:
        panel.text(
            0.5, 0.5, f"no {what} yet", transform=panel.transAxes, ha="center", va="center", color=GREY
        )
        panel.set(xticks=[], yticks=[])
        return False
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    return True


def _draw_points(panel: Axes, values: np.ndarray) -> None:
    shown = thin_out(len(values))
    panel.plot(shown + 1, values[shown], ".", color=GREY, markersize=1.5, label=_shown("episode", values))


def _shown(what: str, values: np.ndarray) -> str:
    """Words for a legend that say how many of the points are drawn."""
    return f"{what} ({MAX_POINTS} of {len(values)})" if len(values) > MAX_POINTS else what


def _draw_line(panel: Axes, x: np.ndarray, y: np.ndarray, color: str, label: str | None) -> None:
    shown = thin_out(len(x))
    marker = "o" if len(x) == 1 else None  # a line of one point would not be seen
    panel.plot(x[shown], y[shown], color=color, label=label, marker=marker, markersize=2.5)


def _put_legend(panel: Axes) -> None:
    """Above the curves, where nothing can lie beneath it."""
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.3 * (high - low))
    panel.legend(loc="upper left", ncols=1, borderaxespad=0.2, markerscale=3, labelspacing=0.3)


def main(args: Sequence[str] | None = None) -> None:
    """Draw the figure of a directory and a step."""
    parser = argparse.ArgumentParser(prog="python -m lit_rl.callbacks.paper.figure", description=__doc__)
    parser.add_argument("directory", type=Path, help="where the CSV files lie, for example RUN/paper_data")
    parser.add_argument("step", type=int, help="env steps up to which to draw, also in the name of the PNG")
    given = parser.parse_args(args)
    if not given.directory.is_dir():
        parser.error(f"directory must be one that PaperExport wrote, got {given.directory}")
    draw(given.directory, given.step)


if __name__ == "__main__":
    yield_to_the_trainer()
    if hasattr(signal, "alarm"):
        signal.alarm(MAX_S)
    main()
