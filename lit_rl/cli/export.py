"""``lit-rl export``: the policy of a checkpoint as a file of its own."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from lit_rl.cli.errors import CommandError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; expected lit-rl export CHECKPOINT --out policy.pt2")


def export(argv: list[str]) -> None:
    """Write ``--out`` from the checkpoint named in ``argv``."""
    parser = _Parser(
        prog="lit-rl export", description="Write the policy of a checkpoint.", allow_abbrev=False
    )
    parser.add_argument("checkpoint", type=Path, help="file written by lit-rl fit")
    parser.add_argument("--out", type=Path, required=True, help="file to write, ending in .pt2")
    given = parser.parse_args(argv)
    if not given.checkpoint.is_file():
        raise CommandError(f"checkpoint {given.checkpoint} does not exist")
    if not given.out.absolute().parent.is_dir():
        raise CommandError(f"--out {given.out}: the folder {given.out.parent} does not exist")
    from lit_rl.algos.export import export_policy
    from lit_rl.cli import checkpoints

    checkpoints.read(given.checkpoint)
    export_policy(given.checkpoint, given.out)
    sys.stdout.write(f"policy written to {given.out}\n")
