"""Measure every speed claim: ``make bench``, or ``python tests/benchmarks/run_all.py [--quick] [--only CASE
...]``.

Every run is a process of its own, so that neither threads nor compiled code leak from one to the next; the
sides of a case alternate (A B C, A B C, ...), so that a slow drift of the machine hits all of them. Needs
an idle machine and two cores, and takes about half an hour. Writes ``results/speed.json`` and
``results/speed.md``, after every case; ``--quick`` (one short round, numbers mean nothing) and ``--only``
write ``speed_quick.*`` and ``speed_partial.*`` instead.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import table
from cases import CASES, Case

HERE = Path(__file__).parent
TIMEOUT_S = 1800
DISTURBED = 0.93
"""Share of a core below which a process, which computes all the time, had to wait for others."""


def run(argv: list[str], threads: int) -> dict[str, Any]:
    """Run one script in a process of its own and return the JSON of its last line.

    Raises:
        SystemExit: The script failed; its output is shown.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, str(HERE / argv[0]), *argv[1:]]
    with tempfile.TemporaryDirectory() as folder:  # MuJoCo leaves a log where it runs
        done = subprocess.run(
            command,
            check=False,
            capture_output=True,
            text=True,
            env=environment,
            cwd=folder,
            timeout=TIMEOUT_S,
        )
    if done.returncode != 0:
        sys.exit(
            f"{' '.join(argv)} failed ({done.returncode}):\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        )
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_case(case: Case, quick: bool) -> table.Runs:
    """All rounds of one case."""
    runs: table.Runs = {side: [] for side in case.sides}
    print(f"\n{case.title}", flush=True)
    for number in range(1 if quick else case.rounds):
        sides = list(case.sides.items())
        for side, argv in sides if number % 2 == 0 else reversed(sides):  # who is later may be slower
            if number < case.only_rounds.get(side, case.rounds):
                result = run([*argv, *(case.quick if quick else [])], case.threads)
                runs[side].append(result)
                told = f"{result[case.metric]:.5g} {case.unit}{_warning(result)}"
                print(f"  round {number + 1}, {side}: {told}", flush=True)
    return runs


def _warning(result: dict[str, Any]) -> str:
    used = result.get("cores_used", 1.0)
    return "" if used > DISTURBED else f"   (disturbed: it got {used:.2f} of a core; do not use this number)"


def gemm_rates(quick: bool) -> dict[int, dict[str, float]]:
    """Billions of operations per second of both routes, for 1 and 2 threads."""
    repeats = "200" if quick else "3000"
    return {n: run(["floors.py", "--threads", str(n), "--repeats", repeats], n) for n in (1, 2)}


def write(path: Path, report: dict[str, Any], text: str) -> None:
    """Write the numbers and the tables."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)


def as_markdown(report: dict[str, Any], cases: list[Case], runs: dict[str, table.Runs]) -> str:
    """The whole document."""
    title = "# Speed" + " (quick: a trial of the scripts, the numbers mean nothing)" * report["quick"]
    head = machine.as_text(report["machine"], report["start"], report["end"])
    rates = "; ".join(
        f"{n} thread{'s' * (n > 1)}: " + ", ".join(f"{route} {rate:.0f}" for route, rate in of_routes.items())
        for n, of_routes in report["gemm_gflops"].items()
    )
    parts = [
        title,
        f"Written by `tests/benchmarks/run_all.py` in {report['minutes']:.1f} minutes.",
        head,
        "Ratios are of medians. Ours runs as users run it (module, data module, `Trainer`), for throughput "
        "without loggers. The clock leaves out imports and the first two batches, into which compilation "
        "falls, so `compile` is warm. Of SB3 it leaves out a short `learn` before the timed one, of "
        "CleanRL the first iteration.",
        table.requirement_table(report["checks"]),
        f"Rate of a 256 x 256 x 256 float32 product in GFLOP/s, {rates}. *time / floor* is the wall time of "
        "the run per update over the time of the update's matrix products alone at these rates. *cores used* "
        "below the number of threads means that others disturbed the run.",
    ]
    for case in cases:
        gemm = report["gemm_gflops"][case.threads]
        parts += [f"## {case.title}", table.run_table(case, runs[case.name], gemm)]
        if case.name in report["matmul_route"]:
            parts.append(table.route_text(report["matmul_route"][case.name]))
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure the cases and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything works")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="these cases only")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the results")
    args = parser.parse_args()
    chosen = [case for case in CASES if not args.only or case.name in args.only]
    path = args.results / ("speed_quick" if args.quick else "speed_partial" if args.only else "speed")
    begin, start = time.monotonic(), machine.load()
    report: dict[str, Any] = {"quick": args.quick, "machine": machine.describe(), "start": start}
    report |= {"gemm_gflops": gemm_rates(args.quick), "checks": [], "matmul_route": {}, "runs": {}}
    for number, case in enumerate(chosen, 1):
        runs = run_case(case, args.quick)
        report["runs"][case.name] = runs
        report["checks"] += [table.judge(case, runs, check) for check in case.checks]
        if shares := table.route(case, runs):
            report["matmul_route"][case.name] = shares
        report |= {"end": machine.load(), "minutes": (time.monotonic() - begin) / 60}
        write(path, report, as_markdown(report, chosen[:number], report["runs"]))
    print("\n" + path.with_suffix(".md").read_text() + f"\nwritten to {path}.json and {path}.md")


if __name__ == "__main__":
    main()
