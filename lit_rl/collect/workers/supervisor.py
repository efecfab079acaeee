"""The worker processes of a collector: they are started, asked, and replaced when they are lost."""

from __future__ import annotations

import os
import weakref
from collections import deque
from typing import Any

from lit_rl.collect.workers.buffer import SharedExperienceBuffer
from lit_rl.collect.workers.policy import PolicyPublisher
from lit_rl.collect.workers.process import Seat
from lit_rl.collect.workers.transport import Transport
from lit_rl.envs.workers.vector import STEP_TIMEOUT_S
from lit_rl.envs.workers.worker import AnyWorker, WorkerLostError, end_workers, give_way
from lit_rl.types import EnvSpec


class Supervisor:
    """Starts W processes that share N environments, and replaces each that is killed or stopped.

    A question that a lost worker had not answered is asked again of the one in its place, whose environments
    begin new episodes. The first replacement follows at once, the next ones in a row after 1 and 2 s.

    Args:
        factory: Pickled function that makes the environments of one worker.
        rows: Environments of each worker.
        seed: Seed of environment 0.
        buffer: The buffer into which rollouts are written.
        publisher: Publisher of the policy.
        step_timeout_s: Longest time in seconds that a step may take, before a worker is taken to hang.
        transport: Transport that starts workers and asks them; it is closed with the last of them.

    Raises:
        ValueError: Workers made different environments; and whatever making them raises.
        RuntimeError: A worker was lost too often in a row, hangs, or failed.
    """

    def __init__(
        self,
        factory: bytes,
        rows: list[slice],
        seed: int,
        buffer: SharedExperienceBuffer,
        publisher: PolicyPublisher,
        step_timeout_s: float,
        transport: Transport,
    ) -> None:
        self._factory, self._rows, self._seed = factory, rows, seed
        self._buffer, self._publisher, self._timeout_s = buffer, publisher, step_timeout_s
        self._transport = transport
        self._workers: list[AnyWorker] = []
        self._asked: list[deque[tuple[Any, ...]]] = [deque() for _ in rows]  # and not answered yet
        self._losses = [0] * len(rows)  # in a row
        self.num_lost = 0
        """Workers that were replaced so far."""
        self.num_reclaimed = 0
        """Parts of slots that were taken back from workers that were lost while they wrote."""
        self.restarts = 0
        """How often environments of this collector were started anew: no episode is played twice."""
        self.before_orders: list[tuple[Any, ...]] = []
        """Questions that a worker in the place of a lost one is asked first."""
        self._end = weakref.finalize(
            self, _end, self._workers, [buffer.memory, publisher.memory], transport, os.getpid()
        )
        self.spec: EnvSpec | None = None
        try:
            for worker in range(len(rows)):
                self._workers.append(self._start(worker))
            for worker in range(len(rows)):
                self._ask_to_begin(worker)
            for worker, spec in enumerate([self.receive(worker) for worker in range(len(rows))]):
                self._meet(worker, spec)
        except BaseException:
            self.end()
            raise

    def __len__(self) -> int:
        return len(self._workers)

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def _start(self, worker: int) -> AnyWorker:
        started = self._transport.start(self._buffer, self._publisher, worker, self._rows[worker])
        started.be_patient(max(self._timeout_s, STEP_TIMEOUT_S))
        return started

    def _ask_to_begin(self, worker: int) -> None:
        rows = self._rows[worker]
        seat = Seat(
            worker, len(self._rows), self._buffer.num_slots, rows.start, rows.stop, self._seed, self.restarts
        )
        self.send(worker, "begin", self._factory, seat)

    def _meet(self, worker: int, spec: EnvSpec) -> None:
        """Compare what a worker made with what the first one made."""
        process = self._workers[worker]
        self.spec = self.spec or spec
        process.name = spec.name
        if spec != self.spec:
            raise ValueError(f"{process.where} differ from the first: {spec}, not {self.spec}")
        process.be_patient(self._timeout_s)

    # Questions

    def ask(self, what: str, *arguments: Any) -> list[Any]:
        """Ask all workers the same, and return their answers."""
        return self.ask_each(what, [arguments] * len(self._rows))

    def ask_each(self, what: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Ask each worker with arguments of its own, and return their answers."""
        self.send_each(what, arguments)
        return self.receive_all()

    def send_each(self, what: str, arguments: list[tuple[Any, ...]]) -> None:
        """Ask each worker, and do not wait."""
        for worker, given in enumerate(arguments):
            self.send(worker, what, *given)

    def receive_all(self) -> list[Any]:
        """Return the oldest answer of each worker."""
        return [self.receive(worker) for worker in range(len(self._rows))]

    def send(self, worker: int, *question: Any) -> None:
        """Ask a worker, and do not wait."""
        if not self._end.alive:
            raise RuntimeError("the worker processes have ended; make the collector anew")
        self._asked[worker].append(question)
        try:
            self._workers[worker].send(*question)
        except WorkerLostError as error:
            self._replace(worker, error)
        except BaseException:
            self.end()
            raise

    def receive(self, worker: int) -> Any:
        """Return the oldest answer of a worker, or of one in its place."""
        if not self._end.alive:
            raise RuntimeError("the worker processes have ended; make the collector anew")
        while True:
            try:
                answer = self._workers[worker].receive()
            except WorkerLostError as error:
                self._replace(worker, error)
            except BaseException:  # an answer that is still to come must not be taken for the next one
                self.end()
                raise
            else:
                self._asked[worker].popleft()
                if not self._asked[worker]:
                    self._losses[worker] = 0
                return answer

    def _replace(self, worker: int, error: WorkerLostError) -> None:
        """Start another process in the place of a lost one, and ask it what that had not answered.

        Raises:
            RuntimeError: It was lost too often in a row.
        """
        while True:
            self._losses[worker] += 1
            lost = self._workers.pop(worker)
            try:
                give_way(lost, error, self._losses[worker])
            except BaseException:
                self.end()
                raise
            self.num_lost += 1
            self.restarts += 1
            self.num_reclaimed += self._buffer.reclaim(worker)
            asked = [question for question in self._asked[worker] if question[0] != "begin"]
            is_beginning = len(asked) < len(self._asked[worker])
            try:
                self._begin_again(worker, asked, is_beginning)
            except WorkerLostError as again:
                error = again
            except BaseException:
                self.end()
                raise
            else:
                return

    def _begin_again(self, worker: int, asked: list[tuple[Any, ...]], is_beginning: bool) -> None:
        """Start a worker, and ask it all that one must know, and what was not answered."""
        process = self._start(worker)
        self._workers.insert(worker, process)
        rows = self._rows[worker]
        seat = Seat(
            worker, len(self._rows), self._buffer.num_slots, rows.start, rows.stop, self._seed, self.restarts
        )
        process.send("begin", self._factory, seat)
        if is_beginning:  # whoever asked first waits for the answer
            return
        self._meet(worker, process.receive())
        first: list[tuple[Any, ...]] = []
        if self._buffer.layout is not None:
            first.append(("lay_out", self._buffer.layout))
        if self._publisher.number:
            first.append(("take_policy", *self._publisher.anew()))
        first += [(what, *(give(rows) for give in given)) for what, *given in self.before_orders]
        for question in first:
            process.send(*question)
            process.receive()
        for question in asked:
            process.send(*question)

    @property
    def is_alive(self) -> bool:
        """Whether there are processes."""
        return self._end.alive

    def end(self) -> None:
        """End the processes and give their memory back. May be called twice."""
        self._end()


def _end(workers: list[AnyWorker], memories: list[int], transport: Transport, owner: int) -> None:
    """End workers, give their memory back, and let go of the transport: in the process that started them."""
    if os.getpid() != owner:
        return
    try:
        end_workers(workers, memories, owner)
    finally:
        transport.close()
