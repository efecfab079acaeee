"""Small seeded runs of every learner, whose numbers are kept in ``tests/golden/``.

``python -m tests.golden_runs check`` runs them again and says which are equal bit for bit; ``write`` keeps
what they log now. ``write_checkpoints`` keeps a checkpoint of each run, what it evaluates to, and how
training goes on from it: those that lie there were written before the files of the learners moved. Names of
runs after the command restrict it to them. The runs are cases of ``tests/cases.py``.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_rl.callbacks import RolloutCheckpoint
from lit_rl.data.environments import Environments
from tests.cases import CASES, NOT_GOLDEN, Make
from tests.toys import MemoryLogger, make_trainer

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINTS = GOLDEN / "checkpoints"
NOT_REPEATABLE = ("time/", "throughput/")
"""Beginnings of the names of values that clocks decide."""

RUNS: dict[str, Make] = {name: make for name, make in CASES.items() if name not in NOT_GOLDEN}
BATCHES = {"ppo_cartpole": 20}
"""How many batches of a run are kept; of the others it is 6."""


def losses(name: str) -> dict[str, list[float]]:
    """Everything that a run logs, but for what clocks decide."""
    torch.manual_seed(1)
    batches = BATCHES.get(name, 6)
    module, data = RUNS[name](batches)
    logger = MemoryLogger()
    make_trainer(logger=logger).fit(module, datamodule=data)
    return _columns(logger)


def _columns(logger: MemoryLogger) -> dict[str, list[float]]:
    names = {name for _, values in logger.rows for name in values if not name.startswith(NOT_REPEATABLE)}
    return {name: logger.column(name) for name in sorted(names)}


def _evaluated(name: str, checkpoint: Path) -> dict[str, float]:
    module, data = RUNS[name](3)
    trainer = make_trainer(limit_val_batches=1.0)
    (values,) = trainer.validate(
        module, datamodule=data, ckpt_path=checkpoint, verbose=False, weights_only=True
    )
    return {key: value for key, value in values.items() if key.startswith("eval/")}


def _resumed(name: str, checkpoint: Path) -> dict[str, list[float]]:
    torch.manual_seed(9)
    module, data = RUNS[name](3)
    logger = MemoryLogger()
    trainer = make_trainer(logger=logger, max_epochs=2)
    trainer.fit(module, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    return _columns(logger)


@contextmanager
def episodes_of_then() -> Iterator[None]:
    """Let evaluations play the episodes of the version that wrote the checkpoints, counted from the seed."""

    def eval_seed(self: Environments, num_envs: int) -> int:
        return self._base_seed + 500_009 + self.rank * num_envs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environments, "eval_seed", eval_seed)
        yield


@episodes_of_then()
def of_checkpoint(name: str, checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint of three batches evaluates to, and what the three batches after it log."""
    return {"evaluated": _evaluated(name, checkpoint), "resumed": _resumed(name, checkpoint)}


def write_checkpoint(name: str) -> dict[str, Any]:
    """Train three batches, and keep the checkpoint and what comes of it."""
    torch.manual_seed(1)
    module, data = RUNS[name](3)
    with tempfile.TemporaryDirectory() as folder:
        make_trainer(default_root_dir=folder, enable_checkpointing=True, callbacks=[RolloutCheckpoint()]).fit(
            module, datamodule=data
        )
        kept = CHECKPOINTS / f"{name}.ckpt"
        shutil.copyfile(Path(folder) / "checkpoints" / "last.ckpt", kept)
    return of_checkpoint(name, kept)


def main(command: str, *names: str) -> None:
    """Check or write the runs called ``names``; all of them where none is named."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    if command == "write_checkpoints":
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in names or RUNS:
        if command == "write":
            _write(GOLDEN / f"{name}.json", losses(name))
        elif command == "write_checkpoints":
            _write(CHECKPOINTS / f"{name}.json", write_checkpoint(name))
        else:
            now = losses(name), of_checkpoint(name, CHECKPOINTS / f"{name}.ckpt")
            kept = tuple(json.loads((at / f"{name}.json").read_text()) for at in (GOLDEN, CHECKPOINTS))
            is_equal = json.dumps(now, sort_keys=True) == json.dumps(kept, sort_keys=True)
            failed += not is_equal
            sys.stdout.write(f"{name:18} {'bit for bit' if is_equal else 'DIFFERENT'}\n")
    sys.exit(failed)


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, sort_keys=True) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
