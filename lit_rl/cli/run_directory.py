"""The directory of one run: where it lies, what is written at its start, its removal if that fails."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any

import lit_rl
from lit_rl.cli.errors import CommandError
from lit_rl.files import write_text

_log = logging.getLogger("lit_rl")


class RunDirectory:
    """``runs/<configuration>/<time>-seed<seed>`` of a fit, or the directory of the run it continues.

    As a context manager it removes the directory again when the run ends by an exception before anything was
    trained. In the directory of an earlier run nothing is written before the first batch is there.

    Attributes:
        path: The directory; None before there is one.
        has_begun: Whether the first batch is there.
    """

    def __init__(self) -> None:
        self.path: Path | None = None
        self.has_begun = False
        self._is_new = False
        self._start: dict[str, str] = {}  # what is written when the run begins
        self._curves: set[Path] = set()  # files of TensorBoard that an earlier run left
        self._previous_latest: str | None = None

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._is_new and self.path is not None and _is_unused(self.path):
            self._remove(self.path)
            _log.info("run directory %s removed: nothing was trained", self.path)
        elif error is not None and self.path is not None and not (self._is_new or self.has_begun):
            for empty in self._curves_in(self.path) - self._curves:
                empty.unlink(missing_ok=True)

    def create(self, root: Path, name: str, seed: int, given: Path | None) -> Path:
        """Make a new directory.

        Args:
            root: Folder of all runs.
            name: Name of the configuration.
            seed: Seed of the run.
            given: The directory the user asked for, if any.

        Raises:
            CommandError: The directory is not empty, or cannot be written.
        """
        path = given or unmade(root, name, seed)
        try:
            if given is not None:
                given.mkdir(parents=True, exist_ok=True)
                if any(given.iterdir()):
                    raise CommandError(
                        f"--run_dir {given} is not empty: give another one, or go on with that run, as it "
                        f"is, by --config {given}/config.yaml --ckpt_path last"
                    )
            else:
                path = make_unique(path)
        except OSError as error:
            option = "--run_dir" if given else "the run directory"
            raise CommandError(
                f"{option} {path} cannot be made: {error.strerror}; choose one by --run_dir PATH", 1
            ) from error
        self.path, self._is_new = path, True
        if given is None:
            self._point_latest(path)
        return path

    def reuse(self, path: Path) -> Path:
        """Go on in the directory of an earlier run, or of the first rank."""
        self.path, self._curves = path, self._curves_in(path)
        return path

    @staticmethod
    def _curves_in(path: Path) -> set[Path]:
        """Find the files of TensorBoard's writer in this process; it makes one before it has a value."""
        return set(path.glob(f"events.out.tfevents.*.{os.getpid()}.*"))

    def write_start(self, config: str) -> None:
        """Write ``config.yaml`` and ``versions.json``; in that of an earlier run :meth:`begin` does."""
        if self.path is None:
            raise ValueError("write_start expects a run directory: call create or reuse first")
        self._start = {"config.yaml": config, "versions.json": json.dumps(versions(), indent=2) + "\n"}
        if self._is_new:
            self._write_start(self.path)

    def begin(self) -> None:
        """Say that the first batch is there; further calls do nothing.

        Older ``config.yaml`` and ``versions.json`` of an earlier run are kept under a number.
        """
        if self.path is not None and not self.has_begun:
            self._write_start(self.path)
        self.has_begun = True

    def _write_start(self, path: Path) -> None:
        texts, self._start = self._start, {}
        try:
            for name, text in texts.items():
                _write_keeping_old(path / name, text)
        except OSError as error:
            raise CommandError(f"cannot write to the run directory {path}: {error.strerror}", 1) from error

    def _point_latest(self, path: Path) -> None:
        self._previous_latest = point_latest(path)

    def _remove(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)
        latest = path.parent / "latest"
        if latest.is_symlink() and str(latest.readlink()) == path.name:
            if self._previous_latest is None:
                latest.unlink()
            else:
                _set_link(latest, self._previous_latest)
        for parent in (path.parent, path.parent.parent):
            if parent.resolve() != Path.cwd() and parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()


def is_run(path: Path) -> bool:
    """Tell whether a run wrote into a directory, which then holds its configuration and versions."""
    return (path / "config.yaml").is_file() and (path / "versions.json").is_file()


def unmade(root: Path, name: str, seed: int) -> Path:
    """Return where the run ``name`` that begins now is to lie: ``root/name/<time>-seed<seed>``."""
    return root / name / f"{datetime.now().astimezone():%Y%m%d-%H%M%S}-seed{seed}"


def point_latest(path: Path) -> str | None:
    """Let ``latest`` beside the run point to it, where the file system has symbolic links.

    Returns:
        The name of the run to which it pointed before; None where there was none.
    """
    latest = path.parent / "latest"
    try:
        before = str(latest.readlink()) if latest.is_symlink() else None
        _set_link(latest, path.name)
    except OSError:
        return None
    return before


def make_unique(path: Path) -> Path:
    """Make ``path``, or ``path-2`` and so on when another run took the same name in the same second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    number, candidate = 1, path
    while True:
        try:
            candidate.mkdir()
        except FileExistsError:
            number += 1
            candidate = path.with_name(f"{path.name}-{number}")
        else:
            return candidate


def _set_link(link: Path, target: str) -> None:
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def _is_unused(path: Path) -> bool:
    """Whether nothing was trained: no row of metrics, no checkpoint."""
    return not (path / "metrics.csv").exists() and not any((path / "checkpoints").glob("*.ckpt"))


def _write_keeping_old(path: Path, text: str) -> None:
    if path.exists() and path.read_text(encoding="utf-8") != text:
        number = 1
        while (old := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
            number += 1
        path.rename(old)
    write_text(path, text)


def versions() -> dict[str, Any]:
    """What a run depends on besides its configuration: versions, machine, commit of the working directory."""
    found: dict[str, Any] = {"lit_rl": lit_rl.__version__, "python": platform.python_version()}
    for package in ("torch", "lightning", "gymnasium", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return {**found, "platform": platform.platform(), "cpu": _cpu(), "git": _git()}


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git() -> dict[str, Any] | None:
    """Commit of the working directory and whether tracked files differ; None outside a repository."""
    try:
        commit = _run_git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_run_git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _run_git(*args: str) -> str:
    done = subprocess.run(["git", *args], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()
