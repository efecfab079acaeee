"""What a command says while it runs: the log of lit_rl on stderr, without Lightning's advertisements."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_NOISE = ("💡 Tip", "TPU available")


class _Stderr(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")


def _is_worth_reading(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_NOISE)


@contextmanager
def on_stderr() -> Iterator[None]:
    """Show the log of lit_rl (of the first rank, warnings of all ranks) while a command runs."""
    log = logging.getLogger("lit_rl")
    handler, level = _Stderr(), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO if os.environ.get("LOCAL_RANK", "0") == "0" else logging.WARNING)
    handlers = [h for name in ("lightning.pytorch", "lightning.fabric") for h in logging.getLogger(name).handlers]
    for lightning_handler in handlers:
        lightning_handler.addFilter(_is_worth_reading)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        for lightning_handler in handlers:
            lightning_handler.removeFilter(_is_worth_reading)
