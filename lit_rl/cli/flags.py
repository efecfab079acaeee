"""The parser of commands that are not LightningCLI's: a wrong command line is one line of ours."""

from __future__ import annotations

import argparse
from typing import NoReturn

from lit_rl.cli.errors import CommandError


class FlagParser(argparse.ArgumentParser):
    """Options of one command, which are never abbreviated.

    Args:
        command: Name of the command after ``lit-rl``.
        description: Sentences for its help.
    """

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"lit-rl {command}", description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            CommandError: It was called.
        """
        raise CommandError(f"{self.prog}: {message}; see {self.prog} --help")


def count(text: str) -> int:
    """Read a whole number of at least 1.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number, at least 1, got {text!r}")
    return int(text)
