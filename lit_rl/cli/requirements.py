"""Settings of a command that are refused before anything is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from lit_rl.arguments import shown
from lit_rl.cli import launch
from lit_rl.cli.errors import CommandError

_KINDS = {"model": "learner, such as PPO or SAC", "data": "data module, such as RolloutDataModule"}
_BASES = ("RLModule", "LightningDataModule")


def check_classes(config: Namespace) -> None:
    """Refuse a configuration that names no learner or no data module: the parser would take their bases.

    Raises:
        CommandError: ``class_path`` of ``model`` or ``data`` is missing, or names the base itself, or a
            network has none.
    """
    for section, kind in _KINDS.items():
        name = config[section].class_path.rpartition(".")[2]
        if name in _BASES:
            raise CommandError(f"{section}.class_path: expected the class of a {kind}; got none, or {name}")
        for key, path in class_paths(config[section].as_dict(), section):
            if path.startswith("torch.nn.") and path.endswith(".Module"):
                raise CommandError(f"{key}: expected the class of a network, such as an encoder; got none")


def class_paths(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the value of each ``class_path`` within a configuration."""
    for key, entry in value.items() if isinstance(value, dict) else ():
        if key == "class_path" and isinstance(entry, str):
            yield f"{name}.class_path", entry
        yield from class_paths(entry, name if key == "init_args" else f"{name}.{key}")


def check_seed(seed: int | bool | None) -> None:
    """Refuse a seed that numpy would not take, and one that was left empty.

    Raises:
        CommandError: It does not fit 32 bits.
    """
    if seed is None or (not isinstance(seed, bool) and not 0 <= seed < 2**32):
        raise CommandError(
            f"seed_everything = {shown(seed)}, expected 0 <= seed_everything <= {2**32 - 1}, or false"
        )


def check_nodes(num_nodes: int) -> None:
    """Refuse several nodes where nobody starts the others, for which the first would wait without end.

    Raises:
        CommandError: No launcher started this process, and no address says where the nodes meet.
    """
    if num_nodes < 1:
        raise CommandError(f"trainer.num_nodes = {shown(num_nodes)}, expected num_nodes >= 1")
    if num_nodes > 1 and launch.external_rank() is None and "MASTER_ADDR" not in os.environ:
        raise CommandError(
            f"trainer.num_nodes = {shown(num_nodes)} needs a launcher that starts this command on every node "
            "(torchrun, srun), got none: it would wait for the others without end; leave num_nodes at 1, or "
            "set MASTER_ADDR, MASTER_PORT and NODE_RANK on each node"
        )


def check_video(path: Path) -> Path:
    """Refuse a video in a format that cannot be written.

    Raises:
        CommandError: The path ends neither in .gif nor in .mp4.
    """
    if path.suffix not in (".gif", ".mp4"):
        raise CommandError(f"--video expects a path that ends in .gif or .mp4, got {path}")
    return path
