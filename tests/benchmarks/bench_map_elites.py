"""MAP-Elites: over bodies against random search, and the glue around pyribs on the arm repertoire.

``python -m tests.benchmarks.bench_map_elites`` prints both tables and writes
``tests/benchmarks/results/map_elites.json``.
"""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path

import numpy as np
from ribs.emitters import EvolutionStrategyEmitter

from lit_rl.envs.arm.body import ArmSpace
from lit_rl.qd.arms import fixed_goals, fresh_goals, measure_arms
from lit_rl.qd.descriptors import arm_grid
from lit_rl.qd.grid import Grid
from lit_rl.qd.search import Measured, Search, corrected, random_search

SEEDS = (0, 1, 2)
EVALUATIONS, BATCH = 7680, 64
JOINTS, CELLS, ITERATIONS = 12, 100, 700
RESULTS = Path(__file__).parent / "results" / "map_elites.json"


def bodies(seed: int) -> dict[str, float]:
    """Both searches over bodies, with a controller that does not learn."""
    space = ArmSpace()
    measure = partial(measure_arms, space, goals=fixed_goals())
    found: dict[str, float] = {"seed": seed}
    for name, search in (
        ("map_elites", Search(arm_grid(space), space.num_genes, batch_size=BATCH, seed=seed)),
        ("random", random_search(arm_grid(space), space.num_genes, batch_size=BATCH, seed=seed)),
    ):
        start = time.perf_counter()
        while search.evaluations < EVALUATIONS:
            search.tell(measure(search.ask()))
        found[f"{name}_s"] = round(time.perf_counter() - start, 1)
        found[f"{name}_qd"] = round(search.archive.qd_score, 1)
        found[f"{name}_coverage"] = round(search.archive.coverage, 3)
        fresh = corrected(search.archive, partial(measure_arms, space, goals=fresh_goals(seed + 100)))
        found[f"{name}_corrected_qd"] = round(fresh.qd_score, 1)
    found["ratio"] = round(found["map_elites_qd"] / found["random_qd"], 2)
    return found


def repertoire(seed: int) -> dict[str, float]:
    """CMA-ME on an arm of twelve joints: places of the tip as cells, even angles as objective."""
    grid = Grid(("x", "y"), (CELLS, CELLS), ((-JOINTS, JOINTS), (-JOINTS, JOINTS)), offset=-4.0)

    def emitters(archive, seed):
        return [
            EvolutionStrategyEmitter(
                archive, x0=np.zeros(JOINTS), sigma0=0.1, ranker="2imp", batch_size=30, seed=seed + 10 * k
            )
            for k in range(5)
        ]

    search = Search(grid, JOINTS, num_initial=0, seed=seed, emitters=emitters)
    start = time.perf_counter()
    for _ in range(ITERATIONS):
        genes = search.ask()
        angle = genes.cumsum(1)
        tip = np.stack([np.cos(angle).sum(1), np.sin(angle).sum(1)], 1)
        search.tell(Measured(-genes.var(1), tip))
    seconds = time.perf_counter() - start
    return {"seed": seed, "coverage": round(search.archive.coverage, 4), "seconds": round(seconds, 1)}


def main() -> None:
    repertoire_rows = [repertoire(seed) for seed in SEEDS]
    print("arm repertoire, CMA-ME, 700 x 150; target: coverage >= 0.785 in 10 s")
    for row in repertoire_rows:
        print("  ", row)
    body_rows = [bodies(seed) for seed in SEEDS]
    print("bodies, 7,680 evaluations; target: QD >= 520, ratio >= 1.35")
    for row in body_rows:
        print("  ", row)
    content = {
        "command": "python -m tests.benchmarks.bench_map_elites",
        "arm_repertoire": repertoire_rows,
        "bodies": body_rows,
    }
    RESULTS.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
