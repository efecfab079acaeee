"""The processes that a trainer starts for further ranks: the failure of one ends all, and none is left."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.strategies.launchers import subprocess_script
from lightning.pytorch.trainer.states import TrainerStatus

from lit_rl.cli import interrupts
from lit_rl.cli.errors import CommandError

_OBSERVER = "_launch_process_observer"
"""Function of Lightning that looks after the processes it is given."""
_POLL_S = 0.5
_GRACE_S = 5.0
"""The first rank may fail by the same fault as another one: so long it has time to say so itself."""
_TEARDOWN_S = 60.0
"""So long it may take to clean up when it fails."""
_PATIENCE_S = 30.0
_END_S = 2.0
"""So long it may take until a rank, whose connections are closed, has ended."""
_OF_CONNECTIONS = ("gloo", "nccl", "connection")
"""Words of messages about ranks that cannot be reached."""


class Ranks:
    """Looks after the processes of the other ranks while a method of ``trainer`` runs.

    Lightning does so, too, but when another rank fails it kills the first one by SIGKILL: its run directory
    would be left, and it could not say what happened. Here an error is raised in the main thread instead.

    Args:
        trainer: The trainer of the first rank; in the others nothing is to be done.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._is_over = threading.Event()
        self._start_of_lightning: Any = None

    def __enter__(self) -> Ranks:
        self._start_of_lightning = getattr(subprocess_script, _OBSERVER)
        setattr(subprocess_script, _OBSERVER, self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        setattr(subprocess_script, _OBSERVER, self._start_of_lightning)
        processes = getattr(self._trainer.strategy.launcher, "procs", None) or []
        dead = _first_dead(processes) if _is_about_a_connection(error) else None
        for process in processes:
            try:
                process.wait(timeout=_PATIENCE_S if error is None else 1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if dead is not None:
            raise CommandError(
                f"{dead}, and this one cannot go on without it ({_one_line(error)})", 1
            ) from error

    def _start(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        threading.Thread(target=self._watch, args=(processes,), daemon=True).start()

    def _watch(self, processes: Sequence[subprocess.Popen[bytes]]) -> None:
        while not self._is_over.wait(_POLL_S):
            for rank, process in enumerate(processes, 1):
                if process.poll():
                    self._report(rank, process.returncode)
                    return

    def _report(self, rank: int, code: int) -> None:
        """End this rank, unless it ends by itself."""
        if self._is_over.wait(_GRACE_S):
            return
        is_failing = self._trainer.state.status == TrainerStatus.INTERRUPTED
        if is_failing and self._is_over.wait(_TEARDOWN_S):
            return
        error = CommandError(f"{_end_of(rank, code)}; what it said is above", 1)
        interrupts.tell(error, self._is_over, _TEARDOWN_S)


def _is_about_a_connection(error: BaseException | None) -> bool:
    """Whether another rank may be what is wrong; gloo and NCCL raise a RuntimeError when it is gone."""
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _OF_CONNECTIONS)


def _first_dead(processes: Sequence[subprocess.Popen[bytes]]) -> str | None:
    """Say which rank has failed, within the moment that its end may take; None where all live or are done."""
    deadline = time.monotonic() + _END_S
    while True:
        for rank, process in enumerate(processes, 1):
            if process.poll():
                return _end_of(rank, process.returncode)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


def _end_of(rank: int, code: int) -> str:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
    return f"rank {rank} {how}"


def _one_line(error: BaseException | None) -> str:
    return f"{' '.join(str(error).split()):.100}"
