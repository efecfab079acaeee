"""N environments divided over worker processes, for environments that are slow.

Axes: N environments.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import numpy as np

from lit_rl.envs.packed import as_arrays, as_tensors
from lit_rl.envs.workers.importable import NotImportableError, dumps_by_name
from lit_rl.envs.workers.shared_arrays import map_arrays, open_memory, place
from lit_rl.envs.workers.worker import Worker, WorkerLostError, end_workers, give_way
from lit_rl.nested import map_nested
from lit_rl.processes import allowed_cores
from lit_rl.types import EnvSpec, NestedArray, Step, VectorEnv

STEP_TIMEOUT_S = 600.0
"""Longest time in seconds that a step may take where nobody says, and always that of making environments."""


class WorkerVectorEnv:
    """N environments in W processes, each with a ``VectorEnv`` of its share, in the order of the axis.

    What comes back is what one process would give, bit for bit, wherever environment i depends on
    ``seed + i`` and its actions only. Actions and steps travel through shared memory. The processes import
    what the environment needs, no torch; they have one thread each unless ``OMP_NUM_THREADS`` says otherwise,
    and the global generators of Python and numpy are seeded in them by ``reset``.

    A worker that is killed, or stopped for longer than ``STOPPED_S``, is replaced: its environments begin new
    episodes, and the step that was lost is told as truncated at the observation before it. When anything else
    fails all processes are ended. Signals by which a terminal or a scheduler stops a whole job
    do not end them: the trainer does.

    Args:
        make: Makes the ``VectorEnv`` of one worker, given its number of environments. It is pickled (lambdas
            and classes of a notebook are fine).
        num_envs: Number N of environments.
        num_workers: Number W of processes; None takes a worker per core that this process may use, at most N.
        step_timeout_s: Longest time in seconds that a worker may take for a step or a reset of all its
            environments; then they are taken to hang. None takes ``STEP_TIMEOUT_S``, infinity waits for ever.

    Raises:
        ValueError: ``num_workers`` is not between 1 and N; ``step_timeout_s`` is not positive; workers made
            different environments; and whatever ``make``, ``reset`` and ``step`` raise in a worker, with the
            numbers of its environments.
        TypeError: ``make`` returns something else, or cannot be pickled.
        RuntimeError: A worker was lost before the second step or too often in a row, or hangs, or its
            environment failed with another exception.
    """

    def __init__(
        self,
        make: Callable[[int], VectorEnv],
        num_envs: int,
        num_workers: int | None = None,
        step_timeout_s: float | None = None,
    ) -> None:
        if num_envs < 1:
            raise ValueError(f"num_envs must be at least 1, got {num_envs}")
        timeout_s = STEP_TIMEOUT_S if step_timeout_s is None else step_timeout_s
        if not timeout_s > 0:
            raise ValueError(f"step_timeout_s must be positive, got {step_timeout_s}")
        num_workers = min(allowed_cores(), num_envs) if num_workers is None else num_workers
        if not 1 <= num_workers <= num_envs:
            raise ValueError(
                f"num_workers must be between 1 and num_envs={num_envs}, got {num_workers}; a worker steps "
                "at least one environment"
            )
        self.num_envs = num_envs
        ends = [num_envs * (w + 1) // num_workers for w in range(num_workers)]
        self._rows = [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]
        self._name = ""
        self._arrays: Any = None
        self._places: tuple[Any, int] = ({}, 0)
        self._pickled, self._timeout_s = pickle_factory(make), timeout_s
        self._losses = [0] * num_workers  # in a row
        self.num_lost = 0
        """Workers that were replaced so far."""
        self._seed = 0
        self._has_valid = False
        self._last_obs: NestedArray = {}
        self._memory, self._workers = open_memory(), list[Worker]()
        self._end = weakref.finalize(self, end_workers, self._workers, [self._memory], os.getpid())
        try:
            for rows in self._rows:
                self._workers.append(self._start(rows))
        except BaseException:
            self._end()
            raise
        sizes = [rows.stop - rows.start for rows in self._rows]
        specs = self._ask("make", [(self._pickled, size, w == 0) for w, size in enumerate(sizes)])
        self.spec: EnvSpec = specs[0]
        self._name = self.spec.name
        for worker, spec in zip(self._workers, specs, strict=True):
            worker.name = self._name
            if spec != self.spec:
                self._end()
                raise ValueError(f"{worker.where} differ from the first: {spec}, not {self.spec}")
            worker.be_patient(timeout_s)

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        self._seed = int(seed)
        obs = _concatenate(self._ask("reset", [(self._seed + rows.start,) for rows in self._rows]))
        self._last_obs = map_nested(np.array, obs)
        return obs

    def set_bodies(self, bodies: Any, body: np.ndarray | None = None) -> NestedArray:
        """Give the environments these bodies from now on, where each worker's have a method ``set_bodies``.

        Args:
            bodies: What that method takes; every worker gets all of them.
            body: ``(N,)`` int, the number of the body of each environment; None gives environment i the body
                ``i % len(bodies)``.

        Returns:
            The first observations.

        Raises:
            ValueError: ``body`` has another shape, or as the environments say.
        """
        body = np.arange(self.num_envs) % len(bodies) if body is None else np.asarray(body, np.int64)
        if body.shape != (self.num_envs,):
            raise ValueError(f"{self._name}: body must hold {self.num_envs} numbers, got shape {body.shape}")
        return _concatenate(self._ask("set_bodies", [(bodies, body[rows]) for rows in self._rows]))

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, ...)``; ``Step`` says what comes back.

        Raises:
            ValueError: ``action`` has another shape, or as the environments say.
            RuntimeError: A worker was killed, or an environment failed.
        """
        agents = self.spec.agents
        lead = (self.num_envs, len(agents)) if agents else (self.num_envs,)
        shape = (*lead, *self.spec.action.shape)
        if action.shape != shape:
            first = "num_envs and agents" if agents else "num_envs"
            raise ValueError(
                f"{self._name}: action must have shape {shape} ({first} first), got {action.shape}"
            )
        if self._arrays is None or self._arrays["action"].dtype != action.dtype:
            step = _join(self._ask("step", [(action[rows],) for rows in self._rows]))
            self._last_obs = map_nested(np.array, step.obs)
            self._has_valid |= step.valid is not None
            if self._arrays is None:
                self._share(action, step)
            return step
        shared = self._arrays
        shared["action"][:] = action
        some_valid = any(self._ask("step_shared", [()] * len(self._rows)))
        self._has_valid |= some_valid
        ended = shared["terminated"] | shared["truncated"]
        self._last_obs = map_nested(np.array, shared["obs"])
        return Step(
            map_nested(np.array, self._last_obs),
            shared["reward"].copy(),
            shared["terminated"].copy(),
            shared["truncated"].copy(),
            map_nested(lambda rows: rows[ended], shared["final_obs"]) if ended.any() else None,
            shared["valid"].copy() if some_valid else None,
            {name: values.copy() for name, values in shared["metrics"].items()},
        )

    def _share(self, action: np.ndarray, step: Step) -> None:
        """Share memory for steps like the first one, which came through the connections."""
        examples = {**step._asdict(), "action": action, "final_obs": step.obs, "valid": step.terminated}
        places, size = place(examples)
        self._arrays, self._places = map_arrays(self._memory, places, size), (places, size)
        self._ask("map", [(places, size, rows.start, rows.stop) for rows in self._rows])

    @property
    def unknown_class(self) -> str | None:
        """Name of the first class whose state cannot be saved, where the environments can tell."""
        return self._ask("unknown_class", [()])[0] if self._end.alive else None

    def get_state(self) -> dict[str, Any] | None:
        """Return the state of all environments as one process would; None when a worker does not know."""
        if not self._end.alive:
            return None
        states = as_tensors(self._ask("get_state", [()] * len(self._rows)))
        if any(state is None for state in states):
            return None
        if all(is_per_copy(state) for state in states):
            return {"envs": [env for state in states for env in state["envs"]]}
        return {"workers": states}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        States of copies fit any ``num_workers``.

        Raises:
            ValueError: The state is of another number of environments, or of workers where that matters, or
                of a batch that was not divided.
        """
        state = as_arrays(state)
        if is_per_copy(state):
            _check_number("num_envs", len(state["envs"]), self.num_envs)
            shares = [{"envs": state["envs"][rows]} for rows in self._rows]
        else:
            if "workers" not in state:
                raise ValueError("the state is of a batch in one process; workers need that of workers")
            shares = state["workers"]
            _check_number("num_workers", len(shares), len(self._rows))
        self._ask("set_state", [(share,) for share in shares])

    def frame(self) -> np.ndarray:
        """Return an RGB array ``(height, width, 3)`` of environment 0."""
        return self._ask("frame", [()])[0]

    def close(self) -> None:
        """Close the environments and end the processes. May be called twice."""
        self._end()
        self._arrays = None  # the mapped memory is given back now, whoever still holds this object

    def _ask(self, what: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return what the first ``len(arguments)`` workers answer; they work at the same time."""
        if not self._end.alive:
            raise RuntimeError(f"{self._name}: its worker processes have ended; make the environments anew")
        lost: dict[int, WorkerLostError] = {}
        answers: list[Any] = [None] * len(arguments)
        try:
            for w, args in enumerate(arguments):
                try:
                    self._workers[w].send(what, *args)
                except WorkerLostError as error:
                    lost[w] = error
            for w in range(len(arguments)):
                try:
                    answers[w] = None if w in lost else self._workers[w].receive()
                except WorkerLostError as error:
                    lost[w] = error
            for w in range(len(arguments)):
                self._losses[w] = self._losses[w] if w in lost else 0
            for w, error in lost.items():
                answers[w] = self._replace(w, error, what, arguments[w])
        except BaseException:  # an answer that is still to come must not be taken for the next one
            self._end()
            raise
        return answers

    def _start(self, rows: slice) -> Worker:
        worker = Worker([self._memory], rows)
        worker.be_patient(max(self._timeout_s, STEP_TIMEOUT_S))
        return worker

    def _replace(self, w: int, error: WorkerLostError, what: str, arguments: tuple[Any, ...]) -> Any:
        """Start a worker in the place of a lost one, and answer what that was asked.

        Raises:
            WorkerLostError: It was asked something that another process cannot answer.
            RuntimeError: It was lost too often in a row.
        """
        if what not in ("reset", "step_shared"):
            raise error
        rows = self._rows[w]
        while True:
            self._losses[w] += 1
            give_way(self._workers.pop(w), error, self._losses[w])
            self.num_lost += 1
            worker = self._start(rows)
            self._workers.insert(w, worker)
            try:
                worker.send("make", self._pickled, rows.stop - rows.start, False)
                worker.name = worker.receive().name
                worker.be_patient(self._timeout_s)
                if self._arrays is not None:
                    worker.send("map", *self._places, rows.start, rows.stop)
                    worker.receive()
                # other episodes than those that were lost
                seed = (
                    arguments[0] if what == "reset" else self._seed + rows.start + 1_000_003 * self.num_lost
                )
                worker.send("reset", seed)
                obs = worker.receive()
            except WorkerLostError as again:
                error = again
            else:
                return obs if what == "reset" else self._tell_lost_step(rows, obs)

    def _tell_lost_step(self, rows: slice, obs: NestedArray) -> bool:
        """Write, for environments whose step was lost, that their episodes were cut before it."""
        own = map_nested(lambda array: array[rows], self._arrays)
        map_nested(np.copyto, own["obs"], obs)
        map_nested(np.copyto, own["final_obs"], map_nested(lambda leaf: leaf[rows], self._last_obs))
        own["reward"][:], own["terminated"][:], own["truncated"][:] = 0, False, True
        own["valid"][:] = not self._has_valid  # where calls may only reset, this is such a call
        for values in own["metrics"].values():
            values[:] = np.nan
        return self._has_valid


def pickle_factory(make: Callable[[int], VectorEnv], by_name: bool = False) -> bytes:
    """Pickle what makes the environments of a worker.

    Args:
        make: The factory.
        by_name: Whether the worker imports classes by name, so that none may be of ``__main__``.

    Raises:
        TypeError: It cannot be pickled.
    """
    try:
        return dumps_by_name(make) if by_name else cloudpickle.dumps(make)
    except NotImportableError as error:
        raise TypeError(f"env or wrappers: {error}") from None
    except Exception as error:
        raise TypeError(
            f"worker processes make the environments, but their factory cannot be pickled ({error}); "
            "vectorization='sync' steps them in this process"
        ) from error


def is_per_copy(state: dict[str, Any]) -> bool:
    """Whether it is a list with the state of each environment, as ``ParallelVectorEnv`` gives it."""
    return state.keys() == {"envs"} and isinstance(state["envs"], list)


def _check_number(argument: str, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"the state is of {argument}={got}, there are {argument}={expected}")


def _concatenate(parts: Sequence[NestedArray]) -> NestedArray:
    return map_nested(lambda *leaves: np.concatenate(leaves), *parts)


def _join(steps: Sequence[Step]) -> Step:
    """Join the steps of all workers into one step of all environments."""
    final = [step.final_obs for step in steps if step.final_obs is not None]
    valid = [np.ones(len(step.terminated), bool) if step.valid is None else step.valid for step in steps]
    return Step(
        _concatenate([step.obs for step in steps]),
        np.concatenate([step.reward for step in steps]),
        np.concatenate([step.terminated for step in steps]),
        np.concatenate([step.truncated for step in steps]),
        _concatenate(final) if final else None,
        np.concatenate(valid) if any(step.valid is not None for step in steps) else None,
        _concatenate([step.metrics for step in steps]),
    )
