"""``lit-rl doctor``: whether this machine has what training needs, and what to do where it has not."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import NamedTuple

from lit_rl.cli.errors import CommandError, describe
from lit_rl.cli.flags import FlagParser
from lit_rl.processes import allowed_cores
from lit_rl.remote.service import DEFAULT_PORT

_LEAST_FREE_GB = 2.0


class Finding(NamedTuple):
    """The finding of one check.

    Attributes:
        is_good: False where something that training needs is missing.
        text: Description of what was found, or advice on what to do.
    """

    is_good: bool
    text: str


def doctor(argv: Sequence[str]) -> None:
    """Check this machine, and print a line for each check.

    Raises:
        CommandError: Something that training needs is missing.
    """
    parser = FlagParser(
        "doctor",
        description="Check packages, W&B, GO2, cores, GPU, port and disk, and say what to do.",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port of actors; default: %(default)s")
    given = parser.parse_args(list(argv))
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "cores": _cores,
        "gpu": _gpu,
        "go2": _go2,
        "wandb": _wandb,
        "port": lambda: _port(given.port),
        "disk": _disk,
    }
    bad = []
    for name, check in checks.items():
        try:
            found = check()
        except Exception as error:  # a check that breaks is what the user asked to know
            found = Finding(False, describe(error))
        bad += [] if found.is_good else [name]
        sys.stdout.write(f"{'ok ' if found.is_good else 'NO '} {name:<9} {found.text}\n")
        sys.stdout.flush()
    if bad:
        raise CommandError(f"{', '.join(bad)}: see above what to do", 1)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return Finding(sys.version_info >= (3, 11), f"Python {version}; 3.11 or newer is needed")


def _packages() -> Finding:
    """Compare what is installed with what lit_rl was installed to need."""
    from packaging.requirements import Requirement

    found, wrong, install = [], [], []
    for requirement in map(Requirement, metadata.requires("lit-rl") or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name, wanted = requirement.name, str(requirement.specifier)
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
        else:
            if requirement.specifier.contains(version, prereleases=True):
                found.append(f"{name} {version}")
                continue
            wrong.append(f"{name} {version} is not {wanted}")
        install.append(f"'{name}{wanted}'")
    if wrong:
        return Finding(False, f"{'; '.join(wrong)}: pip install {' '.join(install)}")
    return Finding(True, ", ".join(found))


def _cores() -> Finding:
    cores, load = allowed_cores(), os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    advice = "; others use them: trainings will be slow" if load > cores else ""
    threads = os.environ.get("OMP_NUM_THREADS")
    limit = f", OMP_NUM_THREADS={threads}" if threads else ""
    return Finding(True, f"{cores} cores for this process{limit}, load {load:.1f}{advice}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding(True, f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    return Finding(True, "none that torch can use; trainings run on the CPU (--config trainer/gpu needs one)")


def _go2() -> Finding:
    from lit_rl.envs.vector import make_vector_env

    start = time.perf_counter()
    robots = make_vector_env("GO2-v0", 1)
    try:
        robots.reset(0)
        import numpy as np

        step = robots.step(np.zeros((1, 12), np.float32))
    finally:
        robots.close()
    finite = bool(np.isfinite(step.obs).all()) if isinstance(step.obs, np.ndarray) else True
    seconds = time.perf_counter() - start
    return Finding(finite, f"GO2-v0 stood and made a step ({seconds:.1f} s, the first time it is compiled)")


def _wandb() -> Finding:
    mode = os.environ.get("WANDB_MODE", "")
    if mode in ("disabled", "offline", "dryrun"):
        return Finding(True, f"WANDB_MODE={mode}: nothing is sent anywhere")
    has_key = bool(os.environ.get("WANDB_API_KEY")) or _is_logged_in()
    advice = "an account is known" if has_key else "no account: wandb login, or leave mode: offline"
    return Finding(True, f"runs are offline unless mode: online is set; {advice}")


def _is_logged_in() -> bool:
    import netrc

    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False


def _port(port: int) -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            advice = "a learner runs already, or give another one by --data.port and --connect"
            return Finding(False, f"{port} cannot be listened at ({error}): {advice}")
    return Finding(True, f"{port} is free for actors")


def _disk() -> Finding:
    free = shutil.disk_usage(".").free / 1e9
    return Finding(free > _LEAST_FREE_GB, f"{free:.0f} GB free here; runs need {_LEAST_FREE_GB:g}")
