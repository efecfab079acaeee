"""Small seeded runs of every learner, whose numbers are kept in ``tests/golden/``.

``python -m tests.golden_runs check`` runs them again and says which are equal bit for bit; ``write`` keeps
what they log now. ``write_checkpoints`` keeps a checkpoint of each run, what it evaluates to, and how
training goes on from it: those that lie there were written before the files of the learners moved.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule

from lit_rl import HMASD, PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks import RolloutCheckpoint
from tests.toys import MemoryLogger, make_trainer

GOLDEN = Path(__file__).parent / "golden"
CHECKPOINTS = GOLDEN / "checkpoints"
NOT_REPEATABLE = ("time/", "throughput/")
"""Beginnings of the names of values that clocks decide."""

Make = Callable[[int], tuple[LightningModule, LightningDataModule]]


def ppo_cartpole(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """The plain algorithm."""
    return (
        PPO(hidden=(16, 16), batch_size=64, update_epochs=2, learning_rate=1e-3),
        RolloutDataModule("CartPole-v1", 4, 32, batches, eval_episodes=4, seed=1, check=False),
    )


def ppo_pendulum(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """Continuous actions, every normalizer, clipped values, an early end of the epochs, annealing."""
    return (
        PPO(
            hidden=(16,), activation="relu", batch_size=80, update_epochs=4, learning_rate=3e-3,
            clip_value=0.2, entropy_coef=0.01, value_norm=True, huber_delta=1.0, target_kl=0.02,
            anneal_env_steps=4000, normalize_observation=True, normalize_return=True,
        ),
        RolloutDataModule("Pendulum-v1", 2, 80, batches, eval_episodes=2, seed=2, check=False),
    )  # fmt: skip


def ppo_memory(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """A recurrent policy."""
    return (
        PPO(hidden=(8,), batch_size=64, update_epochs=2, gru=8, chunk_length=8, learning_rate=1e-3),
        RolloutDataModule("CartPole-v1", 4, 32, batches, eval_episodes=4, seed=3, check=False),
    )


def mappo(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """Several agents with a central critic."""
    return (
        PPO(
            hidden=(16,), batch_size=160, update_epochs=3, learning_rate=1e-3, value_norm=True,
            huber_delta=10.0, central_critic=True, agent_ids="actor", normalize_observation=True,
        ),
        RolloutDataModule(_alice_bob(), 8, 20, batches, eval_episodes=4, seed=4, check=False),
    )  # fmt: skip


def sac_pendulum(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """Windows of two steps, and a ring that is overwritten."""
    return (
        SAC(hidden=(16, 16), learning_rate=1e-3, max_grad_norm=5.0),
        ReplayDataModule(
            "Pendulum-v1", 2, steps_per_batch=16, batch_size=16, warmup_steps=50, capacity=150, n_step=2,
            batches_per_epoch=batches, eval_episodes=2, seed=5, check=False,
        ),
    )  # fmt: skip


def hmasd(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """Memory, skills beside the observations, both levels normalised."""
    return (
        HMASD(
            n_Z=2, n_z=3, k=5, hidden=(16,), embedding=16, heads=2, gru=8, chunk_length=5, update_epochs=2,
            discriminator_epochs=2, minibatches=2, learning_rate=1e-3, anneal_env_steps=100_000,
            agent_ids=True, normalize_observation=True,
        ),
        RolloutDataModule(_alice_bob(), 8, 20, batches, eval_episodes=4, seed=6, check=False),
    )  # fmt: skip


def hmasd_last_layer(batches: int) -> tuple[LightningModule, LightningDataModule]:
    """No memory, skills that join late, blocks that are cut, losses that are summed."""
    return (
        HMASD(
            n_Z=3, n_z=2, k=7, hidden=(16,), embedding=16, gru=None, update_epochs=2, discriminator_epochs=2,
            skill_last_layer=True, skill_sync="truncate", token_reduction="sum", skill_baseline=True,
            clip_value=None, huber_delta=None, value_norm=False,
        ),
        RolloutDataModule(_alice_bob(), 8, 20, batches, eval_episodes=4, seed=7, check=False),
    )  # fmt: skip


def _alice_bob() -> dict[str, Any]:
    return {"class_path": "lit_rl.envs.alice_bob.AliceAndBob"}


RUNS: dict[str, Make] = {
    make.__name__: make
    for make in (ppo_cartpole, ppo_pendulum, ppo_memory, mappo, sac_pendulum, hmasd, hmasd_last_layer)
}
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


def main(command: str) -> None:
    """Check or write all runs."""
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    if command == "write_checkpoints":
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in RUNS:
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
    main(sys.argv[1])
