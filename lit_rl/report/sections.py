"""Sections of the report: each is a function of the groups of runs, None when there is nothing to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from markupsafe import Markup

from lit_rl import metrics
from lit_rl.report.archive import archive
from lit_rl.report.curves import Chart, group_lines
from lit_rl.report.damage import noting, object_of
from lit_rl.report.markup import render
from lit_rl.report.playback import playback
from lit_rl.report.runs import Group, Run
from lit_rl.report.section import Section
from lit_rl.report.skills import skills
from lit_rl.report.statistics import mean_interval
from lit_rl.report.tables import Series
from lit_rl.report.words import PLAYED, duration, number, plural, short

LEARNING = {metrics.EPISODE_RETURN: "Training return", metrics.EVAL_RETURN: "Evaluation return"}
POLICY = {
    metrics.ENTROPY: "Entropy",
    metrics.KL: "KL divergence",
    metrics.CLIP_FRACTION: "Clip fraction",
    metrics.EXPLAINED_VARIANCE: "Explained variance",
    metrics.TEMPERATURE: "Temperature",
    metrics.Q_MEAN: "Mean Q value",
}
SYNC = {
    metrics.SYNC_EFFICIENCY: "Sync efficiency",
    metrics.SYNC_COLLECTION: "Collection time",
    metrics.SYNC_UPDATE: "Update time",
}
SEARCH = {
    metrics.QD_SCORE: "QD score",
    metrics.QD_COVERAGE: "Coverage",
    metrics.QD_DRIFT: "QD score after measuring again, over before",
    metrics.QD_ENTROPY: "Entropy of the bodies trained on",
    metrics.QD_GENE_DISTANCE: "Gene distance of the bodies trained on",
}
SPEED = {
    metrics.STEPS_PER_SECOND: "Throughput",
    metrics.COLLECT_SECONDS: "Time to collect a batch",
    metrics.UPDATE_SECONDS: "Time to learn from a batch",
}


MOST_LOSSES = 200
"""So many losses have a chart."""

_EXPORT = "sync_training_summary.json"

MOST_FAULTS = 100
"""So many lines say what was dropped of a run; of further ones only their number is told."""


def overview(groups: Sequence[Group]) -> Section:
    """Show each run in a line."""
    head = [
        "run", "configuration", "seed", "state", "env steps", "training return", "evaluation return",
        "env steps/s (median)", "wall time",
    ]  # fmt: skip
    rows = [
        [
            run.name,
            group.label,
            run.seed,
            render("state.html", name=run.state.name, detail=run.state.detail),
            _progress(run),
            _value(run.last(metrics.EPISODE_RETURN)),
            _value(run.last(metrics.EVAL_RETURN)),
            _value(_median(run.series(metrics.STEPS_PER_SECOND))),
            _wall_time(run.process),
        ]
        for group in groups
        for run in group.runs
    ]
    return Section("Runs", render("table.html", head=head, rows=rows))


def learning(groups: Sequence[Group]) -> Section | None:
    """Show the return in training and in evaluation."""
    note = ""
    if any(len(group.runs) > 1 for group in groups):
        note = (
            "Thick lines are means over runs of one configuration that differ in their seed; bands are their "
            "95 % intervals (Student's t over the runs that reach the step; cut at the frame)."
        )
    return _charts("Learning curves", groups, LEARNING, note, has_bands=True)


def evaluation(groups: Sequence[Group]) -> Section | None:
    """Show the last evaluation of each configuration, and what ``lit-rl test`` wrote."""
    rows = []
    for group in groups:
        last = [value for run in group.runs if (value := run.last(metrics.EVAL_RETURN)) is not None]
        if last:
            mean, low, high = (float(x) for x in mean_interval(np.array(last)))
            interval = f"{number(low)} to {number(high)}" if len(last) > 1 else "one run gives none"
            played = PLAYED.get(group.runs[0].eval_policy, "")
            rows.append([group.label, played, str(len(last)), number(mean), interval])
    tested = [
        [
            run.name,
            PLAYED.get(str(e.get("eval_policy", "greedy")), ""),  # older files do not say: it was greedy
            number(e["return_mean"]),
            number(e["return_std"]),
            short(e["episodes"]),
            short(e["env_steps"]),
        ]
        for group in groups
        for run in group.runs
        if _is_result(e := run.evaluation)
    ]
    if not rows and not tested:
        return None
    html = Markup()
    if rows:
        head = ["configuration", "played", "runs", "last evaluation return, mean of runs", "95 % interval"]
        html += render("table.html", head=head, rows=rows)
    if tested:
        head = [
            "run, by lit-rl test", "played", "return", "standard deviation", "episodes",
            "env steps of the policy",
        ]  # fmt: skip
        html += render("table.html", head=head, rows=tested)
    return Section("Evaluation", html)


def losses(groups: Sequence[Group]) -> Section | None:
    """Show every loss of every network, with its trend."""
    names = dict.fromkeys(
        (loss.network, loss.name) for group in groups for run in group.runs for loss in run.losses.losses
    )
    shown = list(names)[:MOST_LOSSES]
    charts = [_loss_chart(groups, network, name) for network, name in shown]
    note = (
        "Trend of the last 100 values: rising or falling where their order is significant (Mann-Kendall, "
        "p < 0.05) and the Theil-Sen line moves by more than the scatter around it."
    )
    if len(names) > MOST_LOSSES:
        note += f" The first {MOST_LOSSES} of {len(names)} losses are shown."
    missing = dict.fromkeys(
        f"{network} ({reason})"
        for g in groups
        for run in g.runs
        for network, reason in run.losses.missing.items()
    )
    note += f" Not recorded: {'; '.join(missing)}." if missing else ""
    return Section("Losses", charts=charts, note=note) if charts else None


def policy(groups: Sequence[Group]) -> Section | None:
    """Show the values that tell how the policy changes."""
    return _charts("Policy and value", groups, POLICY)


def sync(groups: Sequence[Group]) -> Section | None:
    """Show times and efficiency of synchronous updates."""
    return _charts("Synchronous updates", groups, SYNC)


def search(groups: Sequence[Group]) -> Section | None:
    """Show how an archive of bodies grows, and how different the bodies are that are trained on."""
    return _charts("Search for bodies", groups, SEARCH)


def speed(groups: Sequence[Group]) -> Section | None:
    """Show the throughput, and where the time goes."""
    return _charts("Speed", groups, SPEED)


def reproduction(groups: Sequence[Group]) -> Section:
    """Show configuration, hardware, versions and commit."""
    runs = [run for group in groups for run in group.runs]
    keys = dict.fromkeys(key for run in runs for key in run.versions)
    rows = [[key, "; ".join(dict.fromkeys(_version(run.versions.get(key)) for run in runs))] for key in keys]
    html = render("table.html", head=["hardware and versions", ""], rows=rows) if rows else Markup()
    for group in groups:
        first, others = group.runs[0], len(group.runs) - 1
        more = f"; {plural(others, 'more run')} with other seeds" if others else ""
        summary = f"config.yaml of {group.label}, seed {first.seed}{more}"
        html += render("details.html", summary=summary, text=first.config_text)
    return Section("To repeat it", html)


def records(groups: Sequence[Group]) -> Section:
    """Say what was dropped, damaged or not finite."""
    found = [f"{run.name}: {text}" for group in groups for run in group.runs for text in _told(_faults(run))]
    items = found or ["Nothing: every file was read in full."]
    return Section("What was dropped", render("list.html", items=items))


MakeSection: TypeAlias = Callable[[Sequence[Group]], Section | None]

SECTIONS: list[MakeSection] = [
    overview,
    learning,
    evaluation,
    losses,
    policy,
    sync,
    speed,
    skills,
    search,
    archive,
    playback,
    reproduction,
    records,
]
"""The page shows these sections in this order. A new kind of data is a new function here."""


def _charts(
    title: str, groups: Sequence[Group], names: Mapping[str, str], note: str = "", has_bands: bool = False
) -> Section | None:
    charts = []
    for name, heading in names.items():
        definition, unit = metrics.METRICS[name]
        chart = Chart(heading, f"{heading} ({unit})" if unit else heading, f"{definition}.")
        _add_lines(chart, groups, lambda run, name=name: run.series(name), has_bands)
        charts += [chart] if chart.lines else []
    return Section(title, charts=charts, note=note) if charts else None


def _loss_chart(groups: Sequence[Group], network: str, name: str) -> Chart:
    def find(run: Run) -> Series | None:
        return next((x.series for x in run.losses.losses if (x.network, x.name) == (network, name)), None)

    trends = Counter(
        loss.trend
        for group in groups
        for run in group.runs
        for loss in run.losses.losses
        if (loss.network, loss.name) == (network, name)
    )
    said = ", ".join(
        f"{trend} in {plural(count, 'run')}" if trends.total() > 1 else trend
        for trend, count in trends.most_common()
    )
    definition = metrics.METRICS.get(f"loss/{name}")
    chart = Chart(
        f"{network}: {name}",
        name.replace("_", " ") if "loss" in name else f"{name} loss",
        (f"{definition.definition}. " if definition else "") + f"Trend: {said}.",
        is_log=_spans_decades([series for g in groups for run in g.runs if (series := find(run))]),
    )
    _add_lines(chart, groups, find)
    return chart


def _add_lines(
    chart: Chart, groups: Sequence[Group], pick: Callable[[Run], Series | None], has_bands: bool = False
) -> None:
    for color, group in enumerate(groups):
        curves = [(f"seed {run.seed}", series) for run in group.runs if (series := pick(run)) is not None]
        if curves:
            chart.lines.extend(group_lines(group.label, color, curves, has_bands))


def _spans_decades(curves: Sequence[Series]) -> bool:
    """Tell whether all values are positive and the largest is over a thousand times the smallest."""
    values = np.concatenate([series.values for series in curves])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > 1000 * values.min())


def _told(faults: list[str]) -> list[str]:
    left_out = len(faults) - MOST_FAULTS
    return faults if left_out <= 0 else [*faults[:MOST_FAULTS], f"{left_out} more"]


def _faults(run: Run) -> list[str]:
    log = run.losses
    faults = [*run.notes, *log.notes]
    if run.table.damaged:
        faults.append(f"metrics.csv: {plural(run.table.damaged, 'incomplete line')} left out")
    if log.damaged:
        faults.append(f"loss recorder: {plural(log.damaged, 'incomplete line')} left out")
    faults += [f"loss recorder: {recorder.describe()}" for recorder in log.recorders if recorder.is_lossy]
    for what, stride in (("metrics.csv", run.table.stride), ("loss recorder", log.stride)):
        if stride > 1:
            faults.append(
                f"{what}: curves and medians of long columns are made of the lowest and the highest value of "
                f"each {stride} neighbours"
            )
    with noting(f"paper_data/{_EXPORT}", faults):
        lost = object_of(run.path / "paper_data" / _EXPORT).get("rows_lost")
        faults += [f"paper export: {short(lost)} rows could not be written"] if lost else []
    curves = {**run.table.columns, **{f"{loss.network} {loss.name}": loss.series for loss in log.losses}}
    for name, series in curves.items():
        bad = int((~np.isfinite(series.values)).sum())
        if bad:
            faults.append(f"{short(name)}: {bad} of {plural(len(series.values), 'value')} not finite")
    return faults


def _progress(run: Run) -> str:
    total = run.total_env_steps
    share = f" of {short(total)} ({run.env_steps / total:.0%})" if total else ""
    return f"{run.env_steps}{share}"


def _median(series: Series | None) -> float | None:
    return None if series is None else float(np.median(series.values))


def _value(value: float | None) -> str:
    return "" if value is None else number(value)


def _wall_time(process: Mapping[str, Any]) -> str:
    started, ended = process.get("started"), process.get("ended")
    return duration(ended - started) if isinstance(started, float) and isinstance(ended, float) else ""


def _is_result(evaluation: Mapping[str, Any]) -> bool:
    names = ("return_mean", "return_std", "episodes", "env_steps")
    return all(isinstance(evaluation.get(name), int | float) for name in names)


def _version(value: Any) -> str:
    if isinstance(value, dict):  # git
        commit = short(value.get("commit", ""))
        return f"{commit}, with changes" if value.get("dirty") else commit
    return "unknown" if value is None else short(value, 400)
