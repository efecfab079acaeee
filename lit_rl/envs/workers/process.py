"""A worker: a process that steps its share of the environments, started by ``vector.py``.

It leads a session of its own, and neither Ctrl-C nor the signals by which schedulers announce the end of a
job stop it: the trainer finishes its batch with it and then ends it. When the trainer is gone, by whatever
signal, its end of the connection closes, and the worker closes its environments and ends. SIGUSR2 makes it
write down, into a file without a name, where it is: so the trainer can say where an environment hangs.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import random
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from lit_rl.envs.faults import EnvironmentFaultError, environment_exit
from lit_rl.envs.packed import plain_or_none
from lit_rl.envs.stepper import Stepper
from lit_rl.envs.workers.shared_arrays import map_arrays
from lit_rl.nested import map_nested
from lit_rl.processes import go_on_when_orphaned, is_orphaned, outlive_signals
from lit_rl.types import EnvSpec, Nested, NestedArray, Step, VectorEnv

_WATCH_S = 1.0
_GRACE_S = 5.0


def serve(make_share: Callable[..., Share]) -> None:
    """Answer the trainer until it closes the connection.

    Args:
        make_share: Makes what answers, given the file descriptors of the memory that is shared.
    """
    descriptor, trace, trainer, *memories = map(int, sys.argv[1:])
    outlive_signals()
    go_on_when_orphaned()
    faulthandler.register(signal.SIGUSR2, trace, all_threads=False)  # the trainer asks where it hangs
    channel = socket.socket(fileno=os.dup(descriptor))
    threading.Thread(target=_watch, args=(trainer, channel), daemon=True).start()
    connection, share = Connection(descriptor), make_share(*memories)
    try:
        while True:
            connection.send_bytes(answer(share, connection.recv_bytes()))
    except (EOFError, ConnectionError):
        share.close()


def _watch(trainer: int, channel: socket.socket) -> None:
    """End this process after the trainer.

    A process that the trainer forked may hold its end of the connection, and an environment may hang.
    """
    while not is_orphaned(trainer):
        time.sleep(_WATCH_S)
    with suppress(OSError):
        channel.shutdown(socket.SHUT_RDWR)
    time.sleep(_GRACE_S)
    os.killpg(0, signal.SIGKILL)


def answer(share: Share, question: bytes) -> bytes:
    """Call the method of ``share`` that ``question`` names.

    Returns:
        ``(True, result)``, or ``(False, (name of the exception, its text, its traceback, row))``; row is the
        environment of an ``EnvironmentFaultError``, of which the text is only what it did.
    """
    try:
        name, *arguments = pickle.loads(question)
        return pickle.dumps((True, getattr(share, name)(*arguments)))
    except BaseException as error:
        told, row = environment_exit(error) if isinstance(error, SystemExit) else error, None
        text = str(told)
        if isinstance(told, EnvironmentFaultError):
            text, row = told.what, told.row
        return pickle.dumps((False, (type(told).__name__, text, traceback.format_exc(), row)))


class Share:
    """The environments of one worker. The public methods are what the trainer asks for."""

    def __init__(self, memory: int) -> None:
        self._memory = memory
        self._env: VectorEnv | None = None
        self._arrays: Any = {}

    @property
    def env(self) -> Any:
        """The environments, after :meth:`make`."""
        return self._env

    def make(self, pickled: bytes, num_envs: int, is_first: bool) -> EnvSpec:
        """Make the environments; returns what they are."""
        with warnings.catch_warnings():
            if not is_first:
                warnings.simplefilter("ignore")  # the first worker says it for all
            env = pickle.loads(pickled)(num_envs)
        if not isinstance(env, VectorEnv):
            raise TypeError(f"make must return a VectorEnv, got {type(env).__name__}")
        self._env, self._stepper = env, Stepper(env)
        if env.num_envs != num_envs:
            raise ValueError(f"make({num_envs}) returned {env.num_envs} environments")
        return env.spec

    def reset(self, seed: int) -> NestedArray:
        """Seed environments and global generators, and start new episodes."""
        random.seed(seed)  # environments of third parties draw from the global generators
        np.random.seed(seed % 2**32)  # noqa: NPY002
        return self._stepper.reset(seed)

    def set_bodies(self, bodies: Any, body: np.ndarray) -> NestedArray:
        """Give the environments other bodies, and start new episodes."""
        return self.env.set_bodies(bodies, body)

    def step(self, action: np.ndarray) -> Step:
        """Step all environments."""
        return self._stepper.step(action)

    def map(self, places: Nested, size: int, start: int, stop: int) -> None:
        """Take the rows from ``start`` to ``stop`` of the shared arrays as this worker's own."""
        arrays = map_arrays(self._memory, places, size)
        self._arrays = map_nested(lambda array: array[start:stop], arrays)

    def step_shared(self) -> bool:
        """Step with the shared action and write what comes; returns whether ``valid`` came."""
        shared = self._arrays
        step = self._stepper.step(shared["action"].copy())
        map_nested(np.copyto, shared["obs"], step.obs)
        shared["reward"][:] = step.reward
        shared["terminated"][:] = step.terminated
        shared["truncated"][:] = step.truncated
        shared["valid"][:] = True if step.valid is None else step.valid
        map_nested(np.copyto, shared["metrics"], step.metrics)
        if step.final_obs is not None:
            ended = step.terminated | step.truncated
            map_nested(lambda rows, last: rows.__setitem__(ended, last), shared["final_obs"], step.final_obs)
        return step.valid is not None

    def unknown_class(self) -> str | None:
        """Return the name of the first class whose state cannot be saved, where that is known."""
        return getattr(self.env, "unknown_class", None)

    def get_state(self) -> dict[str, Any] | None:
        """Return the state of the environments."""
        return plain_or_none(self.env.get_state(), type(self.env).__name__)

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state of the environments."""
        self.env.set_state(state)

    def frame(self) -> np.ndarray:
        """Return a picture of the first environment."""
        if not hasattr(self.env, "frame"):
            raise ValueError("a video needs an environment that renders frames; it has no frame()")
        return self.env.frame()

    def close(self) -> None:
        """Close the environments."""
        if self._env is not None:
            self._env.close()


if __name__ == "__main__":
    serve(Share)
