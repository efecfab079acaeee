"""Measure every speed claim: ``make bench``, or ``python tests/benchmarks/run_all.py [--quick] [--only CASE
...]``.

Every run is a process of its own, so that neither threads nor compiled code leak from one to the next; the
sides of a case alternate (A B C, C B A, ...), so that a slow drift of the machine hits all of them. Peers
that clash with ours run in environments of their own, which ``peer_venv.py`` makes first; one that cannot be
installed is left out, and the document says so. Needs an idle machine and two cores, and takes about 25
minutes; cases that are slow by themselves (watching for long) run only when ``--only`` names them. Writes
``results/speed.json`` and ``results/speed.md``, after every case; ``--quick`` (one short round, numbers mean
nothing) and ``--only`` write ``speed_quick.*`` and ``speed_partial.*`` instead.

``--compare OLD.json ... NEW.json`` measures nothing: it prints which values of NEW are worse than those of
OLD by more than their spread. A measurement ends with that comparison to ``results/speed/complete.json``. To
compare two states of the library on one machine, measure the other one with ``--library``, the path of its
checkout, and ``--results``, another folder.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import compare
import machine
import peer_venv
import table
from cases import CASES, Case

HERE = Path(__file__).resolve().parent
COMMITTED = HERE / "results" / "speed" / "complete.json"
TIMEOUT_S = 1800
DISTURBED = 0.93
"""Share of a core below which a process, which computes all the time, had to wait for others."""


def run(argv: list[str], threads: int, library: Path | None = None) -> dict[str, Any]:
    """Run one script in a process of its own and return the JSON of its last line.

    Args:
        argv: The script and its arguments.
        threads: What OpenMP may use.
        library: Checkout whose lit_rl is measured; None measures the one that is installed.

    Raises:
        SystemExit: The script failed; its output is shown.
    """
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    if library is not None:
        environment["PYTHONPATH"] = str(library.resolve())
    interpreter = sys.executable
    if argv[0] in peer_venv.SCRIPTS:
        interpreter = str(peer_venv.python(peer_venv.SCRIPTS[argv[0]]))
        environment.pop("PYTHONPATH", None)
    command = [interpreter, str(HERE / argv[0]), *argv[1:]]
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


def make_peers(cases: list[Case]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """Make the environments that the cases need; return the versions in each, and why one is missing."""
    scripts = {argv[0] for case in cases for argv in case.sides.values()}
    versions, missing = {}, {}
    for peer in dict.fromkeys(peer for script, peer in peer_venv.SCRIPTS.items() if script in scripts):
        try:
            versions[peer] = peer_venv.ensure(peer)
        except peer_venv.PeerMissingError as error:
            missing[peer] = str(error)
            print(f"{peer} is left out: {error}", flush=True)
    return versions, missing


def without(case: Case, missing: Container[str]) -> Case:
    """The case without the sides of missing peers, and without what is said against them."""
    sides = {side: argv for side, argv in case.sides.items() if peer_venv.SCRIPTS.get(argv[0]) not in missing}
    checks = [check for check in case.checks if check.against is None or check.against in sides]
    return replace(case, sides=sides, checks=checks)


def run_case(case: Case, quick: bool, library: Path | None) -> table.Runs:
    """All rounds of one case."""
    runs: table.Runs = {side: [] for side in case.sides}
    print(f"\n{case.title} (load average {machine.load()['load'][:1]})", flush=True)
    for number in range(1 if quick else case.rounds):
        sides = list(case.sides.items())
        for side, argv in sides if number % 2 == 0 else reversed(sides):  # who is later may be slower
            if number < case.only_rounds.get(side, case.rounds):
                result = run([*argv, *(case.quick if quick else [])], case.threads, library)
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
    peers = "; ".join(
        f"{peer} with " + ", ".join(f"{name} {version}" for name, version in versions.items())
        for peer, versions in report["peers"].items()
    )
    head += f" Peers in environments of their own: {peers}." * bool(peers)
    head += "".join(
        f" **{peer} could not be installed and is left out.**" for peer in report["missing_peers"]
    )
    parts = [
        title,
        f"Written by `tests/benchmarks/run_all.py` in {report['minutes']:.1f} minutes.",
        head,
        "Ratios are of medians. Ours runs as users run it (module, data module, `Trainer`), for throughput "
        "without loggers. The clock leaves out imports and the first two batches, into which compilation "
        "falls, so `compile` is warm. Of SB3 and SBX it leaves out a short `learn` before the timed one (SBX "
        "compiles in it), of CleanRL the first iteration, of BenchMARL the first two.",
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
    if "comparison" in report:
        parts.append(report["comparison"])
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Measure the cases and write after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, to see that everything works")
    parser.add_argument("--only", nargs="+", choices=[case.name for case in CASES], help="these cases only")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument(
        "--library", type=Path, help="checkout whose lit_rl is measured, not the installed one"
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="print how the last of these differs from the others",
    )
    args = parser.parse_args()
    if args.compare:
        if len(args.compare) < 2:
            parser.error("--compare expects at least two files: old ones and the new one")
        print(compare.as_markdown(compare.read(args.compare[:-1]), compare.read(args.compare[-1:])))
        return
    chosen = [case for case in CASES if (case.name in args.only if args.only else not case.slow)]
    path = args.results / ("speed_quick" if args.quick else "speed_partial" if args.only else "speed")
    peers, missing = make_peers(chosen)
    chosen = [case for case in (without(case, missing) for case in chosen) if case.checks]
    begin, start = time.monotonic(), machine.load()
    report: dict[str, Any] = {"quick": args.quick, "machine": machine.describe(), "start": start}
    report |= {"peers": peers, "missing_peers": missing, "case_minutes": {}}
    report |= {"gemm_gflops": gemm_rates(args.quick), "checks": [], "matmul_route": {}, "runs": {}}
    for number, case in enumerate(chosen, 1):
        case_start = time.monotonic()
        runs = run_case(case, args.quick, args.library)
        report["case_minutes"][case.name] = round((time.monotonic() - case_start) / 60, 2)
        report["runs"][case.name] = runs
        report["checks"] += [table.judge(case, runs, check) for check in case.checks]
        if shares := table.route(case, runs):
            report["matmul_route"][case.name] = shares
        report |= {"end": machine.load(), "minutes": (time.monotonic() - begin) / 60}
        if number == len(chosen) and COMMITTED.exists() and not args.quick:
            report["comparison"] = compare.as_markdown(compare.read([COMMITTED]), report)
        write(path, report, as_markdown(report, chosen[:number], report["runs"]))
    print("\n" + path.with_suffix(".md").read_text() + f"\nwritten to {path}.json and {path}.md")


if __name__ == "__main__":
    main()
