"""Workers of a collector on Ray: how actors are started, asked, watched and ended."""

from __future__ import annotations

import math
import pickle
import time
from collections import deque
from contextlib import suppress
from typing import Any, NoReturn

from lit_rl.collect.fleet.actor import FleetActor
from lit_rl.collect.fleet.session import Session, open_session
from lit_rl.collect.workers.buffer import SharedExperienceBuffer, SlotState
from lit_rl.collect.workers.policy import PolicyPublisher
from lit_rl.envs.workers.worker import WorkerLostError, describe_rows, raise_again, raise_hang
from lit_rl.processes import allowed_cores

_LOOK_S = 2.0  # how often an actor that is waited for is looked at
_TRACE_S = 5.0
FROZEN_S = 30.0
"""Seconds without any sign after which an actor is taken to be lost: its process is stopped, or its machine
cannot be reached. A step that computes without letting other threads run must not take as long."""
_WATCH = "watch"  # concurrency group of what is asked while an actor works


class RayTransport:
    """Workers are actors of Ray, to which weights and rollouts travel (a ``Transport``).

    Args:
        address: Address of a Ray cluster, ``auto`` for one that runs on this machine; None starts one, on
            loopback, which ends with the last collector.
        num_workers: Number of workers that will be started; None takes one for each CPU of the cluster, or of
            this machine where the cluster is started.
        num_envs: Number of environments; workers are at most as many.

    Raises:
        ValueError: Ray is not installed, there is no cluster at ``address``, or it has too few CPUs.
    """

    shares_memory = False
    by_name = True

    def __init__(self, address: str | None, num_workers: int | None, num_envs: int) -> None:
        own = min(allowed_cores(), num_envs) if num_workers is None else num_workers
        self._session: Session | None = open_session(address, own)
        self.ray: Any = self._session.ray
        num_cpus = self._session.num_cpus
        if num_workers is None and not self._session.is_local:
            own = max(1, min(num_cpus, num_envs))
        self._num_workers = own
        if not self._session.is_local and num_cpus < own:
            self.close()
            raise ValueError(
                f"num_workers = {own} needs a CPU for each worker, but the Ray cluster at "
                f"{address or 'which this program is connected'} has {num_cpus} in all; start more nodes, or "
                "take fewer workers"
            )
        cpus = 0 if self._session.is_local else 1  # all that is started here belongs to this process
        self._make = self.ray.remote(concurrency_groups={_WATCH: 1})(FleetActor).options(
            num_cpus=cpus, max_restarts=0, max_task_retries=0
        )
        self._weights: tuple[tuple[int, int], Any] | None = None

    def default_workers(self) -> int:
        """Return the number of CPUs of the cluster, or of this machine where the cluster was started."""
        return self._num_workers

    def start(
        self, buffer: SharedExperienceBuffer, publisher: PolicyPublisher, worker: int, rows: slice
    ) -> RayWorker:
        """Start the actor of some environments; it takes its place on the cluster meanwhile."""
        return RayWorker(self, self._make.remote(), buffer, publisher, worker, rows)

    def weights(self, publisher: PolicyPublisher) -> Any:
        """Return a reference to the version that was published last, which is sent once to each node."""
        key = publisher.number, publisher.counter
        if self._weights is None or self._weights[0] != key:
            self._weights = key, self.ray.put(publisher.snapshot())
        return self._weights[1]

    @property
    def is_up(self) -> bool:
        """Whether there is a connection to Ray."""
        return self._session is not None and self._session.is_up

    def close(self) -> None:
        """Let go of the connection to Ray, which ends a cluster that was started for it."""
        session, self._session, self._weights = self._session, None, None
        if session is not None:
            session.close()


class RayWorker:
    """An actor that collects (a ``AnyWorker``).

    Args:
        transport: Transport that started the worker.
        actor: Handle of a ``FleetActor``.
        buffer: Buffer whose slots tell which rollouts are under way.
        publisher: What publishes the policy.
        worker: Its number.
        rows: Its environments.
    """

    def __init__(
        self,
        transport: RayTransport,
        actor: Any,
        buffer: SharedExperienceBuffer,
        publisher: PolicyPublisher,
        worker: int,
        rows: slice,
    ) -> None:
        self.rows, self.name = rows, ""
        self._transport, self._ray, self._actor = transport, transport.ray, actor
        self._buffer, self._publisher, self._worker = buffer, publisher, worker
        self._asked: deque[tuple[str, Any, int | None]] = deque()  # question, its answer, slot
        self._last = ""
        self._asked_at, self._patience_s = 0.0, math.inf
        self._ping: Any = None
        self._pinged_at = 0.0
        self._closing: Any = None
        self._pid: int | None = None

    @property
    def pid(self) -> int:
        """Number of its process, on its machine."""
        if self._pid is None:
            self._pid = int(self._ray.get(self._watch("pid")))
        return self._pid

    @property
    def where(self) -> str:
        """Say in words which environments it steps."""
        return describe_rows(self.name, self.rows)

    def be_patient(self, seconds: float) -> None:
        """Wait so long for an answer and no longer."""
        self._patience_s = seconds

    def send(self, what: str, *arguments: Any) -> None:
        """Ask for ``what``, a public method of the share of environments in the actor.

        Weights go along where a method acts by the policy.
        """
        needs_weights = what in ("fill", "with_policy")
        weights = self._transport.weights(self._publisher) if needs_weights else None
        slot = arguments[0].slot if what == "fill" else None
        if what == "fill" and arguments[0].look_every:  # for the rollout that is being collected, too
            self._watch("take_weights", weights)
        answer = self._actor.answer.remote(pickle.dumps((what, *arguments)), weights)
        self._last, self._asked_at = what, time.monotonic()
        self._asked.append((what, answer, slot))

    def receive(self) -> Any:
        """Wait for the answer to the oldest question.

        Raises:
            WorkerLostError: The actor died, its process is stopped, or its machine cannot be reached.
            RuntimeError: It hangs, or its environment failed.
            ValueError: The environment says so; TypeError and FloatingPointError are passed on, too.
        """
        _, answer, slot = self._asked[0]
        states = self._buffer.control.state
        if slot is not None:
            states[slot, self._worker] = SlotState.WRITING
        try:
            self._wait(answer)
            is_fine, result = pickle.loads(self._ray.get(answer))
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError) as error:
            self._report_end(error)
        self._asked.popleft()
        if slot is not None and is_fine:
            states[slot, self._worker] = SlotState.READY
        return result if is_fine else raise_again(self, *result)

    def _wait(self, answer: Any) -> None:
        """Wait until there is an answer; every other second the actor is asked for a sign of life."""
        self._ping = None
        while not self._ray.wait([answer], timeout=_LOOK_S)[0]:
            now = time.monotonic()
            if self._ping is None:
                self._ping, self._pinged_at = self._watch("silence_s"), now
            elif self._ray.wait([self._ping], timeout=0)[0]:
                signed_at = now - float(self._ray.get(self._ping))
                self._ping = None
                if now - max(self._asked_at, signed_at) >= self._patience_s:
                    self._report_hang()
            elif self._asked[0][0] == "begin":  # it waits for its place, or imports
                self._check_begun(now)
            elif now - self._pinged_at >= FROZEN_S:
                self._kill()
                raise WorkerLostError(
                    f"the Ray worker of {self.where} gave no sign of life for {FROZEN_S:g} s: its process is "
                    "stopped (SIGSTOP), or its machine cannot be reached"
                )

    def _check_begun(self, now: float) -> None:
        """Give up a worker that does not begin.

        Raises:
            RuntimeError: It has waited for too long.
        """
        if now - self._asked_at >= self._patience_s:
            self._kill()
            raise RuntimeError(
                f"the Ray worker of {self.where} did not begin within {self._patience_s:g} s; the cluster "
                "has no free CPU for it, or its machine does not answer"
            )

    def _watch(self, what: str, *arguments: Any) -> Any:
        """Ask something that is answered while the actor works."""
        return getattr(self._actor, what).options(concurrency_group=_WATCH).remote(*arguments)

    def _report_hang(self) -> NoReturn:
        """Kill the actor, and say what it was doing."""
        trace = ""
        with suppress(self._ray.exceptions.RayError):
            trace = self._ray.get(self._watch("trace"), timeout=_TRACE_S)
        self._kill()
        raise_hang(self.where, self._last, self._patience_s, trace)

    def _report_end(self, error: Exception) -> NoReturn:
        self._kill()
        told = [line.strip() for line in str(error).splitlines() if line.strip()]
        why = told[0] if told else type(error).__name__
        if "creation task" in str(error) and len(told) > 1:
            why = told[-1]  # what the constructor raised
        raise WorkerLostError(f"the Ray worker of {self.where} died: {why.rstrip('.')}") from None

    def _kill(self) -> None:
        if self._transport.is_up:
            with suppress(Exception):  # it is gone, and so is all that could be done about it
                self._ray.kill(self._actor)

    def close(self) -> None:
        """Let it close its environments."""
        if self._transport.is_up:
            with suppress(self._ray.exceptions.RayError):
                self._closing = self._actor.close.remote()

    def end(self, patience_s: float) -> None:
        """Wait until it has closed its environments, and kill it."""
        if self._closing is not None and self._transport.is_up:
            with suppress(self._ray.exceptions.RayError):
                self._ray.get(self._closing, timeout=patience_s)
        self._kill()
