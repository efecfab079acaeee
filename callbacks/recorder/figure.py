"""The figure of all losses: a panel each with curve, trend and statistics. Loads matplotlib."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

import lit_rl
from lit_rl.trend import WINDOW

BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#595959"
"""Colours of Okabe and Ito, which are told apart with any colour vision and in grey print."""
COLUMNS = 3
PANEL_INCHES = (4.4, 3.0)
LEFT, RIGHT, TOP, BOTTOM = 0.8, 0.15, 0.72, 0.5
"""Inches of a panel around its axes, for labels and statistics. Fixed, and so not measured each time: the
figure is drawn every 15 s beside the training."""
TITLE_INCHES = 0.35
LEGEND_INCHES = 0.3
DPI = 150
LOG_FROM = 300.0
"""A loss that is always positive and whose means span more than this factor gets a logarithmic axis."""

_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
}


def draw(content: dict[str, Any], path: Path) -> None:
    """Write the figure as PNG.

    Args:
        content: Panels, missing networks and counts, as ``Session`` collects them.
        path: The file to write, whatever its suffix.
    """
    panels = content["panels"]
    columns = 2 if len(panels) == 4 else min(COLUMNS, max(len(panels), 1))
    rows = max(1, math.ceil(len(panels) / columns))
    notes = [*_missing_texts(content["missing"]), _counts_text(content)]
    notes_inches = 0.17 * len(notes) + 0.1
    below = notes_inches + LEGEND_INCHES
    height = PANEL_INCHES[1] * rows + below + TITLE_INCHES
    width = PANEL_INCHES[0] * max(columns, 2)
    with mpl.rc_context(_STYLE):
        figure = Figure((width, height), dpi=DPI)
        FigureCanvasAgg(figure)
        style: Any = {"fontsize": 11, "fontweight": "bold", "va": "top"}
        figure.suptitle(_title(content), y=1 - 0.12 / height, **style)
        if not panels:
            figure.text(0.5, 0.55, "no loss was recorded", ha="center", color=GREY)
        for number, panel in enumerate(panels):
            left = width / columns * (number % columns) + LEFT
            bottom = below + PANEL_INCHES[1] * (rows - 1 - number // columns) + BOTTOM
            size = (width / columns - LEFT - RIGHT, PANEL_INCHES[1] - TOP - BOTTOM)
            box = (left / width, bottom / height, size[0] / width, size[1] / height)
            _draw_panel(figure.add_axes(box), panel, content["step_unit"])
        _draw_legend(figure, notes_inches / height)
        style = {"fontsize": 7.5, "color": GREY, "va": "bottom", "linespacing": 1.4}
        figure.text(0.01, 0.06 / height, "\n".join(notes), **style)
        figure.savefig(path, format="png", pil_kwargs={"compress_level": 1})


def _draw_legend(figure: Figure, bottom: float) -> None:
    """One for all panels, above the notes."""
    pairs = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = {label: handle for some in pairs for handle, label in zip(*some, strict=True)}
    if handles:
        place: Any = {"loc": "lower center", "bbox_to_anchor": (0.5, bottom), "ncols": len(handles)}
        figure.legend(handles.values(), handles.keys(), **place)


def _draw_panel(axes: Axes, panel: dict[str, Any], step_unit: str) -> None:
    curve, summary = panel["curve"], panel["summary"]
    steps = curve["step"]
    style: Any = {"marker": "o" if len(steps) == 1 else None, "markersize": 3, "linewidth": 1.0}
    is_grouped = curve["low"] != curve["high"]  # several rows per point
    label = "loss, mean of neighbouring rows" if is_grouped else "loss"
    axes.plot(steps, curve["mean"], color=BLUE, label=label, **style)
    if is_grouped:
        band: Any = {"color": BLUE, "alpha": 0.22, "linewidth": 0, "label": "lowest to highest of them"}
        axes.fill_between(steps, curve["low"], curve["high"], **band)
    if summary["trend_line"]:  # many points: the line is bent where the axis is logarithmic
        (first, start), (last, end) = summary["trend_line"]
        line_steps = [first + (last - first) * k / 50 for k in range(51)]
        line = [start + (end - start) * k / 50 for k in range(51)]
        axes.plot(line_steps, line, color=VERMILION, linewidth=2.0, label=f"trend of the last {WINDOW} rows")
    if panel["bad_steps"]:
        heights, at = [0.02] * len(panel["bad_steps"]), axes.get_xaxis_transform()
        axes.plot(panel["bad_steps"], heights, "x", color="black", transform=at, label="NaN or infinite")
    _set_scales(axes, curve, summary)
    axes.set_title(f"{panel['network']}: {panel['loss']}", loc="left", pad=26, fontweight="bold")
    axes.text(0, 1.03, _statistics_text(summary), transform=axes.transAxes, fontsize=7.2, color=GREY)
    axes.set_xlabel(step_unit)
    axes.set_ylabel(panel["loss"].replace("_", " "))


def _set_scales(axes: Axes, curve: dict[str, list[float]], summary: dict[str, Any]) -> None:
    lowest = min(curve["low"], default=0.0)
    means = curve["mean"]
    if lowest > 0 and max(means) > LOG_FROM * min(means):
        axes.set_yscale("log", nonpositive="mask")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 2.5, 5, 10]))
    if summary["last_step"] >= 10_000:
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _statistics_text(summary: dict[str, Any]) -> str:
    """Two lines: where the loss is and goes, and how it is spread."""
    names = {"last": "last", "mean": "mean", "p50": "median", "min": "min", "max": "max"}
    texts = {key: f"{name} {summary[key]:.3g}" for key, name in names.items() if summary[key] is not None}
    if summary["std"] is not None:
        texts["mean"] += f" ± {summary['std']:.2g}"
    bad = [f"{name} {summary[key]}" for key, name in (("nan", "NaN"), ("inf", "inf")) if summary[key]]
    first = [texts.get("last"), texts.get("mean"), f"trend {summary['trend']}"]
    second = [texts.get("p50"), texts.get("min"), texts.get("max"), f"n {summary['count']}", *bad]
    return "\n".join("   ".join(filter(None, line)) for line in (first, second))


def _missing_texts(missing: dict[str, str]) -> list[str]:
    """One line per reason."""
    networks: dict[str, list[str]] = {}
    for network, reason in missing.items():
        networks.setdefault(reason, []).append(network)
    return [f"missing: {', '.join(names)} ({reason})" for reason, names in networks.items()]


def _title(content: dict[str, Any]) -> str:
    algorithm = f" ({content['algorithm']})" if content["algorithm"] else ""
    source = "" if content["source"] == "measured" else f", {content['source'].upper()}"
    return f"Losses per network: {content['experiment']}{algorithm}{source}"


def _counts_text(content: dict[str, Any]) -> str:
    counts = content["counts"]
    pending = f" + pending {counts['pending']}" if counts["pending"] else ""
    rows = f"rows offered {counts['offered']} = written {counts['written']} + dropped {counts['dropped']}"
    when = f"{content['state']}, {datetime.now().astimezone():%Y-%m-%d %H:%M:%S}"
    return f"{rows} + invalid {counts['invalid']}{pending}; {when}, lit_rl {lit_rl.__version__}"
