"""What a fit begins with: nothing, the weights of a checkpoint, or all of it, in its run or in a new one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser

from lit_rl.cli import checkpoints
from lit_rl.cli.errors import CommandError
from lit_rl.cli.run_directory import RunDirectory

_log = logging.getLogger("lit_rl")

_COMMENT = "# It began with "
"""How the line begins in which ``config.yaml`` says what its run began with, beside the configuration."""


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add the arguments by which ``fit`` begins with the weights of a checkpoint."""
    parser.add_argument(
        "--init_from",
        type=str | None,
        default=None,
        help="Checkpoint (last, best or a path) whose weights and normalizers a new run begins with.",
    )
    parser.add_argument(
        "--init_from_partial",
        type=bool,
        default=False,
        help="Leave out what does not fit of --init_from, and list it.",
    )


def resolve_init_from(chosen: Namespace, configs: list[Path]) -> None:
    """Put the path of the checkpoint that ``--init_from`` means in its place.

    Raises:
        CommandError: There is no such checkpoint, or another argument contradicts it.
    """
    if chosen.init_from is None:
        if chosen.init_from_partial:
            raise CommandError("--init_from_partial true expects --init_from CHECKPOINT, got none")
        return
    if chosen.get("ckpt_path") is not None:
        raise CommandError(
            "--init_from begins a new run with the weights of a checkpoint, --ckpt_path goes on with all of "
            "it: give one of them"
        )
    chosen["init_from"] = str(checkpoints.resolve(chosen.init_from, configs, "--init_from"))


def unsaved_run(given: str, configs: list[Path]) -> Path | None:
    """Find the run that ``--ckpt_path last`` means, if it was ended before its first checkpoint, and say so.

    Args:
        given: ``last``, ``best``, or a path.
        configs: Configurations of the command line.

    Returns:
        The directory of the newest configuration that is a run's own, if it has no checkpoint at all: such a
        run begins again in its directory.
    """
    runs = [path.parent for path in configs if path.name == "config.yaml"]
    started = [run for run in runs if (run / "versions.json").is_file()]
    if given != "last" or not started or any((started[-1] / "checkpoints").glob("*.ckpt")):
        return None
    _log.info("run %s was ended before its first checkpoint: it begins again", started[-1])
    return started[-1]


def compare_seed(seed: int | bool, checkpoint: Path) -> list[str]:
    """Say on a line that the fit has another seed than the run of the checkpoint; True goes on with that."""
    run = checkpoints.run_of(checkpoint)
    before = checkpoints.read_config(run / "config.yaml").get("seed_everything") if run else None
    is_other = before is not None and seed is not True and seed != before
    return [f"seed_everything = {seed} replaces {before} of the run {run}"] if is_other else []


def run_to_go_on_with(
    checkpoint: Path | None, configs: list[Path], given: Path | None, is_elsewhere: bool
) -> Path | None:
    """Return the run of the checkpoint if a fit is a part of it; None begins a new run.

    It is a part if it has the run's own configuration, perhaps changed by the command line, and its
    environment: with anything else one directory would hold two runs.

    Args:
        checkpoint: The checkpoint that the fit goes on with, or the directory of a run that begins again.
        configs: Configurations of the command line.
        given: The directory that the user asked for, if any.
        is_elsewhere: Whether the environment is not that of the checkpoint.
    """
    if checkpoint is not None and checkpoint.is_dir():
        run = checkpoint
    else:
        run = checkpoints.run_of(checkpoint) if checkpoint else None
    if run is None or (given is not None and given.resolve() != run.resolve()):
        return None
    if run != checkpoint and not checkpoints.is_of_run(configs, run):
        _log.info("a new run begins with %s; --config %s/config.yaml goes on in %s", checkpoint, run, run)
    elif is_elsewhere:
        _log.info("a new run begins with %s: its environment is not that of %s", checkpoint, run)
    else:
        return run
    return None


def comment(directory: Path, chosen: Namespace, checkpoint: Path | None) -> str:
    """Say in a comment what a run began with beside its configuration; a run that goes on keeps what it said.

    Args:
        directory: The run directory.
        chosen: The configuration of ``fit``.
        checkpoint: The checkpoint that the fit goes on with, if any.
    """
    old = directory / "config.yaml"
    if old.is_file():
        lines = old.read_text(encoding="utf-8", errors="replace").splitlines()
        return "".join(f"{line}\n" for line in lines if line.startswith(_COMMENT))
    if chosen.init_from is not None:
        return f"{_COMMENT}the weights and normalizers of {chosen.init_from} (--init_from)\n"
    return f"{_COMMENT}all of {checkpoint} (--ckpt_path)\n" if checkpoint is not None else ""


def announce(run_directory: RunDirectory) -> Callback:
    """Return a callback that tells ``run_directory`` when the first batch is there.

    What can be refused was refused before.
    """
    return _Announce(run_directory)


class _Announce(Callback):
    """Lets the run directory begin with the first batch."""

    def __init__(self, run_directory: RunDirectory) -> None:
        self._run_directory = run_directory

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Let the run directory begin, on the first rank."""
        if trainer.is_global_zero:
            self._run_directory.begin()
