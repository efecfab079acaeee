"""Failures as one line: what was expected, what came, who decided it, what to do."""

from __future__ import annotations

EXPECTED = (
    "ValueError",
    "TypeError",
    "MisconfigurationException",
    "FloatingPointError",
    "DependencyNotInstalled",
)
"""Exceptions whose message was written for users, by name: importing them would load Lightning."""


class CommandError(Exception):
    """A failure whose message says all there is to say.

    Args:
        message: One line.
        code: Exit status: 2 when the command line or configuration is wrong, 1 otherwise.
    """

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


def describe(error: BaseException) -> str:
    """Put ``error`` on one line; the type is named where the message alone was not written for users."""
    text = " ".join(str(error).split())
    if isinstance(error, CommandError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    if type(error).__name__ in EXPECTED and text:
        return text
    name = type(error).__name__
    return (
        f"{name}: {text} (run again with --debug to see where)" if text else f"{name} (--debug shows where)"
    )


def exit_code(error: BaseException) -> int:
    """Return the exit status for ``error``."""
    if isinstance(error, KeyboardInterrupt):
        return 130
    return error.code if isinstance(error, CommandError) else 1
