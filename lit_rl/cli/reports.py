"""``lit-rl report | status | paper``: what the files of runs say. Loads neither torch nor Lightning."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from lit_rl.cli.errors import CommandError
from lit_rl.report.runs import find_runs

_RUN = "run directory, or folder of runs as in runs/ppo_cartpole"


class _Parser(argparse.ArgumentParser):
    """Options of one command; every command begins with runs."""

    def __init__(self, command: str, description: str, usage: str) -> None:
        super().__init__(prog=f"lit-rl {command}", description=description, allow_abbrev=False)
        self.expected = f"lit-rl {command} {usage}"
        self.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=_RUN)

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}; expected {self.expected}")


def report(argv: list[str]) -> None:
    """Write ``report.html`` about the runs named in ``argv``."""
    parser = _Parser("report", "Write one page about some runs.", "RUN [RUN ...] [--out report.html]")
    parser.add_argument("--out", type=Path, help="file to write; default: report.html in the first run")
    given = parser.parse_args(argv)
    if given.out is not None and given.out.is_dir():
        raise CommandError(f"--out {given.out} is a folder: give a file, as in {given.out / 'report.html'}")
    runs = _find(given.runs)
    from lit_rl.report.html import write_report

    with _writing(given.out or runs[0]):
        path = write_report(runs, given.out)
    _say(f"written {path}\n")


def paper(argv: list[str]) -> None:
    """Write figures and a table about the runs named in ``argv``."""
    parser = _Parser("paper", "Write figures and a table for a paper.", "RUN [RUN ...] [--out DIR]")
    parser.add_argument("--out", type=Path, help="folder to write into; default: paper in the first run")
    given = parser.parse_args(argv)
    if given.out is not None and given.out.exists() and not given.out.is_dir():
        raise CommandError(f"--out {given.out} is a file: give a folder")
    runs = _find(given.runs)
    from lit_rl.report.paper import write_paper

    out = given.out or runs[0] / "paper"
    with _writing(out):
        written = write_paper(runs, out)
    _say("".join(f"written {path}\n" for path in written))


def status(argv: list[str]) -> None:
    """Print the state of the runs named in ``argv``."""
    parser = _Parser("status", "Print the state of runs.", "RUN [RUN ...]")
    runs = _find(parser.parse_args(argv).runs)
    from lit_rl.report.status import describe_run

    _say("\n".join(f"{describe_run(run)}\n" for run in runs))


COMMANDS: dict[str, Callable[[list[str]], None]] = {"report": report, "status": status, "paper": paper}


def _say(text: str) -> None:
    """Write to stdout; letters of a path that UTF-8 does not have are escaped."""
    sys.stdout.write(text.encode(errors="backslashreplace").decode())


def _find(paths: list[Path]) -> list[Path]:
    try:
        return find_runs(paths)
    except ValueError as error:
        raise CommandError(str(error)) from error


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Say on one line what is wrong with the runs or with ``--out``."""
    try:
        yield
    except ValueError as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write {out}: {error.strerror}; give --out", 1) from error
