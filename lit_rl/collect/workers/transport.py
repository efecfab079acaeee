"""Transports start the workers of a collector: behind their interface processes and Ray actors are alike."""

from __future__ import annotations

from typing import Protocol

from lit_rl.collect.workers.buffer import SharedExperienceBuffer
from lit_rl.collect.workers.policy import PolicyPublisher
from lit_rl.envs.workers.worker import AnyWorker, Worker
from lit_rl.processes import allowed_cores

_MODULE = "lit_rl.collect.workers.process"


class Transport(Protocol):
    """Starts workers, which answer what ``CollectingShare`` can.

    ``shares_memory`` says whether they see the memory of the trainer; otherwise rollouts and weights travel
    with answers and questions. ``by_name`` says whether they import classes, so that those of ``__main__``
    cannot reach them.
    """

    shares_memory: bool
    by_name: bool

    def default_workers(self) -> int:
        """Return how many workers there are where nobody says."""
        ...

    def start(
        self, buffer: SharedExperienceBuffer, publisher: PolicyPublisher, worker: int, rows: slice
    ) -> AnyWorker:
        """Start the worker of some environments."""
        ...

    def close(self) -> None:
        """Let go of what workers needed; all of them have ended. May be called twice."""
        ...


class LocalProcesses:
    """Workers are processes of this machine, and share memory with the trainer (a ``Transport``)."""

    shares_memory = True
    by_name = False

    def default_workers(self) -> int:
        """Return the number of cores that this process may use."""
        return allowed_cores()

    def start(
        self, buffer: SharedExperienceBuffer, publisher: PolicyPublisher, worker: int, rows: slice
    ) -> Worker:
        """Start the process of some environments.

        Raises:
            OSError: It could not be started.
        """
        alive_at = buffer.control.alive_at
        return Worker([buffer.memory, publisher.memory], rows, _MODULE, lambda: float(alive_at[worker]))

    def close(self) -> None:
        """Do nothing: memory without a name is given back with its file descriptors."""
