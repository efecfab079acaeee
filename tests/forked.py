"""Worker processes that are forked from the tests' own, which has imported torch already: they start at once.

What is tested of the start itself, and of ends, uses the processes that users have.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, ClassVar

from lit_rl.processes import ModuleProcess


class ForkedProcess:
    """Stands in for ``ModuleProcess``: runs what stands under ``__main__`` of a worker's module."""

    started: ClassVar[list[ForkedProcess]] = []
    """All that were started since somebody emptied the list."""

    def __init__(self, module: str, *args: object, pass_fds: Sequence[int] = (), **_: Any) -> None:
        found = import_module(module)
        share = getattr(found, "CollectingShare", None) or found.Share
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid:
            self.started.append(self)
            return
        try:
            os.setsid()
            kept = sorted({0, 1, 2, *pass_fds})
            for before, after in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
                os.closerange(before + 1, min(after, 4096))
            sys.argv = [module, *map(str, args)]
            found.serve(share)
        finally:
            os._exit(0)

    def poll(self) -> int | None:
        """Exit status; None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end."""
        deadline = time.monotonic() + (1e9 if timeout_s is None else timeout_s)
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.001)
        return status

    def kill(self) -> None:
        """Send SIGKILL to its group."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)


def process(module: str, *args: object, **settings: Any) -> ForkedProcess | ModuleProcess:
    """Fork a process that collects; others are started as users have them."""
    kind = ForkedProcess if module.startswith("lit_rl.collect") else ModuleProcess
    return kind(module, *args, **settings)
