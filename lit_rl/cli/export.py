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
    parser.add_argument(
        "--class",
        dest="classes",
        metavar="NAME",
        action="append",
        default=[],
        help="class of yours that the checkpoint may name, such as my_package.MyEncoder; may be repeated",
    )
    given = parser.parse_args(argv)
    if not given.checkpoint.is_file():
        raise CommandError(f"checkpoint {given.checkpoint} does not exist")
    if not given.out.absolute().parent.is_dir():
        raise CommandError(f"--out {given.out}: the folder {given.out.parent} does not exist")
    from lit_rl.algos.export import export_policy
    from lit_rl.algos.names import UntrustedError
    from lit_rl.cli import checkpoints
    from lit_rl.envs.class_path import factory

    checkpoints.read(given.checkpoint)
    if given.classes and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # classes of a user lie there
    classes = [factory({"class_path": name}, "--class") for name in given.classes]
    try:
        export_policy(given.checkpoint, given.out, classes)
    except UntrustedError as error:
        raise CommandError(f"{error.problem}: if it is yours, give its name by --class", 1) from error
    except OSError as error:
        raise CommandError(f"--out {given.out} cannot be written: {error.strerror}", 1) from error
    sys.stdout.write(f"policy written to {given.out}\n")
