"""``lit-rl export``: the policy of a checkpoint as a file, or as a bundle, of its own."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lit_rl.cli.errors import CommandError
from lit_rl.cli.flags import FlagParser


def export(argv: list[str]) -> None:
    """Write ``--out``, ``--bundle`` or both from the checkpoint named in ``argv``.

    Raises:
        CommandError: The command line or the checkpoint is wrong.
    """
    given = _parser().parse_args(argv)
    if given.out is None and given.bundle is None:
        raise CommandError(
            "expected lit-rl export CHECKPOINT --out policy.pt2 (a file) or --bundle DIR (a folder that "
            "verify-policy can check)"
        )
    if given.bundle is None and (given.config or given.overwrite):
        raise CommandError("--config and --overwrite are for --bundle DIR")
    checkpoint = _checkpoint(given.checkpoint)
    for option, path in (("--out", given.out), ("--bundle", given.bundle)):
        if path is not None and not path.absolute().parent.is_dir():
            raise CommandError(f"{option} {path}: the folder {path.parent} does not exist")
    from lit_rl.algos.names import UntrustedError
    from lit_rl.cli import checkpoints
    from lit_rl.envs.class_path import factory

    content = checkpoints.read(checkpoint)
    if (given.classes or given.config) and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # classes of a user lie there
    classes = [factory({"class_path": name}, "--class") for name in given.classes]
    try:
        if given.out is not None:
            from lit_rl.algos.export import export_policy

            with _writing(f"--out {given.out}"):
                export_policy(checkpoint, given.out, classes)
            sys.stdout.write(f"policy written to {given.out}\n")
        if given.bundle is not None:
            with _writing(f"--bundle {given.bundle}"):
                _bundle(given, checkpoint, content, classes)
    except UntrustedError as error:
        raise CommandError(f"{error.problem}: if it is yours, give its name by --class", 1) from error


@contextmanager
def _writing(option: str) -> Iterator[None]:
    """Say which option names what cannot be written."""
    try:
        yield
    except OSError as error:
        raise CommandError(f"{option} cannot be written: {error.strerror}", 1) from error


def _bundle(given: Namespace, checkpoint: Path, content: dict[str, Any], classes: list[Any]) -> None:
    from lit_rl.bundle.contract import BundleError
    from lit_rl.bundle.writing import export_bundle
    from lit_rl.cli import checkpoints
    from lit_rl.cli.bundles import world_from

    trained = (checkpoints.trained_with(content, checkpoint) or {}).get("init_args") or {}
    world, environment = world_from(given.config, trained, f"checkpoint {checkpoint}")
    try:
        contract = export_bundle(
            checkpoint, given.bundle, world, environment, classes, overwrite=given.overwrite
        )
    except BundleError as error:
        raise CommandError(str(error), 1) from error
    measured = contract.measured
    sys.stdout.write(
        f"bundle written to {given.bundle}: return {measured['return_mean']:.1f} over {measured['episodes']} "
        f"episodes; lit-rl verify-policy {given.bundle} tries it elsewhere\n"
    )


def _checkpoint(given: Path) -> Path:
    """Find the file that is meant: a run stands for its best checkpoint, or its last one without a best."""
    found = given
    if given.is_dir():
        folder = given / "checkpoints"
        found = next(
            (path for name in ("best", "last") if (path := folder / f"{name}.ckpt").is_file()), given
        )
        if found is given:
            raise CommandError(f"{given} is a folder without checkpoints/best.ckpt or checkpoints/last.ckpt")
    if not found.is_file():
        raise CommandError(f"checkpoint {given} does not exist")
    return found


def _parser() -> FlagParser:
    parser = FlagParser("export", "Write the greedy policy of a checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="file written by lit-rl fit, or the folder of a run")
    parser.add_argument("--out", type=Path, help="file to write, ending in .pt2")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR",
        help="folder to write: policy.onnx, policy.pt2, contract.json, recorded pairs; needs lit-rl[bundle]",
    )  # fmt: skip
    parser.add_argument(
        "--config", "-c", action="append", default=[],
        help="configuration of the environment, for --bundle, where that is not registered with Gymnasium",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace the bundle that lies there")
    parser.add_argument(
        "--class", dest="classes", metavar="NAME", action="append", default=[],
        help="class of yours that the checkpoint may name, such as my_package.MyEncoder; may be repeated",
    )  # fmt: skip
    return parser
