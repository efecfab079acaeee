"""From measurements to tables: medians, ranges, ratios, requirements, distance to the floor."""

from __future__ import annotations

import math
import statistics
from typing import Any

from cases import Case, Check

Runs = dict[str, list[dict[str, Any]]]
"""Of one case: side to what its runs printed."""


def values(case: Case, runs: Runs, side: str) -> list[float]:
    """The compared number of every run of ``side``."""
    return [run[case.metric] for run in runs[side]]


def summary(numbers: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(numbers), "min": min(numbers), "max": max(numbers)}


def judge(case: Case, runs: Runs, check: Check) -> dict[str, Any]:
    """The measured value of a promise, its range over rounds, and whether it is kept."""
    over = values(case, runs, check.side)
    if check.against is None:
        measured, rounds = statistics.median(over), over
    else:
        under = values(case, runs, check.against)
        measured = statistics.median(over) / statistics.median(under)
        rounds = [a / b for a, b in zip(over, under, strict=False)]
    kept = None
    if check.limit is not None:
        kept = measured >= check.limit if check.kind == "at least" else measured <= check.limit
    return {
        "case": case.title,
        "what": check.text,
        "required": check.kind if check.limit is None else f"{check.kind} {check.limit:g}",
        "measured": measured,
        "min": min(rounds),
        "max": max(rounds),
        "pass": kept,
    }


def route(case: Case, runs: Runs) -> dict[str, float] | None:
    """How much of SAC's ratio is the route of matrix products, which the peer's user could set, too."""
    if "peer, medium" not in runs:
        return None
    median = {side: statistics.median(values(case, runs, side)) for side in runs}
    ratio = median["default"] / median["peer"]
    peer_gain = median["peer, medium"] / median["peer"]
    return {
        "ratio": ratio,
        "both_highest": median["default, highest"] / median["peer"],
        "both_medium": median["default"] / median["peer, medium"],
        "gain_of_the_peer_by_the_route": peer_gain,
        "share_of_the_route": math.log(peer_gain) / math.log(ratio) if ratio > 1 else math.nan,
    }


def floor_distance(case: Case, run: dict[str, Any], gemm: dict[str, float]) -> dict[str, float]:
    """Time per update over the time of its matrix products alone, by either route of this machine."""
    seconds = 1 / run["updates_per_s"]
    return {precision: seconds * 1e9 * rate / (case.flop or 0) for precision, rate in gemm.items()}


def measured_text(judgement: dict[str, Any]) -> str:
    """The median and the range over rounds."""
    low, high = _number(judgement["min"]), _number(judgement["max"])
    return f"**{_number(judgement['measured'])}** ({low} to {high})"


def requirement_table(judgements: list[dict[str, Any]]) -> str:
    """Required, measured, pass; a value without a limit is shown and not judged."""
    rows = [
        [
            j["case"],
            j["what"],
            "shown only" if j["pass"] is None else j["required"],
            measured_text(j),
            {None: "-", True: "yes", False: "**NO**"}[j["pass"]],
        ]
        for j in judgements
    ]
    return markdown(["case", "ratio or value", "required", "measured (range over rounds)", "pass"], rows)


def run_table(case: Case, runs: Runs, gemm: dict[str, float] | None) -> str:
    """Every side of one case."""
    headers = ["side", case.unit, "min to max", "runs", "cores used"]
    if case.flop and gemm:
        headers += ["per CPU second", "time / floor: highest, medium", "ms per update in `training_step`"]
    headers += ["of CPU time", "ms per batch: full, bare"] if case.metric == "percent" else []
    rows = []
    for side, done in runs.items():
        numbers = summary(values(case, runs, side))
        cores = statistics.median(run.get("cores_used", math.nan) for run in done)
        row = [
            side,
            _number(numbers["median"]),
            f"{_number(numbers['min'])} to {_number(numbers['max'])}",
            str(len(done)),
            "-" if math.isnan(cores) else f"{cores:.2f}",
        ]
        middle = sorted(done, key=lambda run: run[case.metric])[len(done) // 2]
        if case.flop and gemm:
            per_cpu = statistics.median(run[case.metric.replace("_per_s", "_per_cpu_s")] for run in done)
            distance = ", ".join(f"{d:.1f}" for d in floor_distance(case, middle, gemm).values())
            inside = middle.get("ms_in_training_step")
            row += [_number(per_cpu), distance, "-" if inside is None else f"{inside:.3f}"]
        if case.metric == "percent":
            row += [
                f"{middle['percent_of_cpu_time']:.2f}",
                f"{middle['full_ms']:.2f}, {middle['bare_ms']:.2f}",
            ]
        rows.append(row)
    return markdown(headers, rows)


def route_text(shares: dict[str, float]) -> str:
    """One sentence beside SAC's ratio."""
    return (
        f"Of the ratio {shares['ratio']:.2f}, the route of float32 matrix products accounts for "
        f"{100 * shares['share_of_the_route']:.0f} % (in logarithms): "
        "`torch.set_float32_matmul_precision('medium')`, which an SB3 user could call as well, makes SB3 "
        f"{shares['gain_of_the_peer_by_the_route']:.2f} times as fast. With the same route on both "
        f"sides ours is {shares['both_highest']:.2f} times as fast under `highest`, "
        f"{shares['both_medium']:.2f} under `medium`."
    )


def markdown(headers: list[str], rows: list[list[str]]) -> str:
    """A table of Markdown."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _number(x: float) -> str:
    if abs(x) >= 1_000:
        return f"{x:,.0f}"
    return f"{x:.3g}" if abs(x) >= 10 else f"{x:.2f}"
