"""What more critics cost: ``python tests/benchmarks/bench_critics.py`` writes ``results/critics.md``.

An update of SAC (hidden layers of 256, minibatches of 256, 17 numbers observed, 6 actions, one thread) is
timed with 2 and 10 critics. Times are CPU time of the process per update, over batches of 20 updates; the
settings take turns, so that a busy machine disturbs all alike, and the fastest batch counts: others only slow
it.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

sys.path.insert(0, str(Path(__file__).parents[2]))

from lit_rl import SAC
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, ReplayBatch
from tests.replay_toys import OneBatch, make_batch
from tests.toys import make_trainer

RESULT = Path(__file__).parent / "results" / "critics.md"
UPDATES = 20  # of a batch
SPEC = EnvSpec("Sizes", LeafSpec([17]), ActionSpec("box", [6], low=[-1.0] * 6, high=[1.0] * 6))
SETTINGS: dict[str, dict[str, Any]] = {
    "SAC, 2 critics": {"num_critics": 2},
    "10 critics, minimum of all": {"num_critics": 10},
    "10 critics, 2 drawn": {"num_critics": 10, "target_subset": 2},
    "2 critics, 20 updates for each of the policy": {"num_critics": 2, "critic_actor_ratio": 20},
    "sac_redq: 10 critics, 2 drawn, 20 for each of the policy": {
        "num_critics": 10, "target_subset": 2, "policy_q": "mean", "critic_actor_ratio": 20,
    },
}  # fmt: skip
BESIDE = {
    "sac_redq: 10 critics, 2 drawn, 20 for each of the policy": "2 critics, 20 updates for each of the policy"
}
"""What a setting is compared with, where that is not the first one."""


class Clock(Callback):
    """Notes the CPU time of each batch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Begin."""
        self._start = time.process_time()

    def on_train_batch_end(self, *_: Any) -> None:
        """End."""
        self.times.append((time.process_time() - self._start) / UPDATES * 1e3)


def batch() -> ReplayBatch:
    """Random transitions of ``SPEC``."""
    shape = (UPDATES, 256)
    return {
        **make_batch(),
        "obs": torch.randn(*shape, 17),
        "next_obs": torch.randn(*shape, 17),
        "action": torch.rand(*shape, 6) * 2 - 1,
        "reward": torch.randn(shape),
        "discount": torch.full(shape, 0.99),
        "new_obs": torch.randn(8, 17),
    }


def cost(batches: int, **arguments: Any) -> list[float]:
    """Milliseconds of CPU time per update, of each batch but the first two."""
    clock, blocks = Clock(), [batch()] * batches
    trainer = make_trainer(callbacks=[clock])
    module = SAC(spec=SPEC, threads=1, **arguments)
    trainer.fit(module, train_dataloaders=OneBatch(*blocks), val_dataloaders=OneBatch())
    return clock.times[2:]


def main() -> None:
    """Measure, print, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--batches", type=int, default=8)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    routes = ("highest", "medium")
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.turns):
        for route in routes:
            for name, arguments in SETTINGS.items():
                times = cost(args.batches, matmul_precision=route, **arguments)
                found.setdefault((name, route), []).extend(times)
    fastest = {key: min(times) for key, times in found.items()}
    lines = [
        f"Least CPU time per update in ms over {args.turns} turns ({platform.machine()}, torch "
        f"{torch.__version__}, 1 thread), `python tests/benchmarks/bench_critics.py`.",
        "",
        "| setting | highest | ratio | medium | ratio |",
        "|---|---|---|---|---|",
    ]
    for name in SETTINGS:
        beside = BESIDE.get(name, next(iter(SETTINGS)))
        cells = [f"{fastest[name, r]:.2f} | {fastest[name, r] / fastest[beside, r]:.2f}" for r in routes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print("\n".join(lines))
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
