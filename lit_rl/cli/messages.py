"""What a command says while it runs: the log of lit_rl on stderr, without Lightning's advertisements."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeGuard

from lit_rl import terminal

_NOISE = ("💡 Tip", "TPU available")
_PYTREE = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated"  # between torch and Lightning; nothing a user can do
)


class _Stderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        terminal.write(sys.stderr, self.format(record) + "\n")


@contextmanager
def on_stderr() -> Iterator[None]:
    """Show the log of lit_rl (of the first rank, warnings of all ranks) while a command runs."""
    log = logging.getLogger("lit_rl")
    handler, level = _Stderr(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.WARNING)
    try:
        with _lightning_on_stderr(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=_PYTREE)
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def _lightning_on_stderr() -> Iterator[None]:
    """Give Lightning's log, which keeps the stderr of its import, the present one, and filter it."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    handlers = [handler for name in names for handler in logging.getLogger(name).handlers]
    streams = [(handler, handler.stream) for handler in handlers if _has_stream(handler)]
    for handler in handlers:
        handler.addFilter(_is_worth_reading)
    for handler, _ in streams:
        handler.stream = sys.stderr  # not setStream, which flushes the old one: it may be closed
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_is_worth_reading)
        for handler, stream in streams:
            handler.stream = stream


def _has_stream(handler: logging.Handler) -> TypeGuard[logging.StreamHandler]:
    return type(handler) is logging.StreamHandler


def _is_worth_reading(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOISE)
