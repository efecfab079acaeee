"""Checkpoints of short trainings, and bundles of them, for the tests of what travels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lit_rl.algos.module import RLModule
from lit_rl.bundle.worlds import MakeWorld, world_of
from lit_rl.bundle.writing import export_bundle
from lit_rl.data.rollout import RolloutDataModule
from tests.toys import make_trainer


def checkpoint_of(folder: Path, module: RLModule, data: Any) -> Path:
    """Train for one batch."""
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    path = folder / "last.ckpt"
    trainer.save_checkpoint(path)
    return path


def bundle_of(
    folder: Path, module: RLModule, env: Any, env_kwargs: dict[str, Any] | None = None
) -> tuple[Path, MakeWorld]:
    """Train for one batch, and export."""
    data = RolloutDataModule(env, 4, 16, 1, env_kwargs=env_kwargs, check=False)
    checkpoint, world = checkpoint_of(folder, module, data), world_of(env, env_kwargs or {})
    name = env if isinstance(env, str) else "tests.Toy"
    export_bundle(checkpoint, folder / "bundle", world, {"env": name, "env_kwargs": env_kwargs or {}})
    return folder / "bundle", world
