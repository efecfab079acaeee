"""Errors of environments while they are played, which name the environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class EnvironmentFaultError(ValueError):
    """An environment returned something else than it declares.

    Args:
        name: Name of the environments.
        what: What was expected and what came.
        row: Number of the environment among those of its batch; None where the whole batch is meant.
    """

    def __init__(self, name: str, what: str, row: int | None = None) -> None:
        super().__init__(f"{name if row is None else f'{name} (environment {row})'}: {what}")
        self.name, self.what, self.row = name, what, row


class EnvironmentExitError(RuntimeError):
    """An environment asked its process to end, which ends no run as if somebody had stopped it."""


def environment_exit(error: SystemExit, name: str = "") -> EnvironmentExitError:
    """Return what is raised in place of the SystemExit of an environment.

    Args:
        error: What the environment raised.
        name: Name of the environment, for the message.
    """
    code = "" if error.code is None else repr(error.code)
    return EnvironmentExitError(
        f"{name}{': ' if name else ''}the environment called sys.exit({code}); end an episode by terminated "
        "or truncated, and raise an error where something is wrong"
    )


@contextmanager
def fault_of(name: str, row: int) -> Iterator[None]:
    """Let the ValueError of a check that is made inside say which environment it is about."""
    try:
        yield
    except ValueError as error:
        raise EnvironmentFaultError(name, str(error).removeprefix(f"{name}: "), row) from error


@contextmanager
def no_exit(name: str) -> Iterator[None]:
    """Let an environment that calls ``sys.exit`` inside fail by an ``EnvironmentExitError``."""
    try:
        yield
    except SystemExit as error:
        raise environment_exit(error, name) from error
