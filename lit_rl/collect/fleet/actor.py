"""A worker as an actor of Ray: it has the environments, the policy, and memory of its own for the weights.

This file is imported in the process of the actor before torch is.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from typing import Any

from lit_rl.envs.workers.shared_arrays import open_memory


class FleetActor:
    """Answers what ``CollectingShare`` can. ``answer`` is called from one thread, the others from another."""

    def __init__(self) -> None:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the accelerators are the trainer's
        self._memories = open_memory(), open_memory()  # of signs of life, of weights
        self._share: Any = None
        self._counter = -1  # of the weights
        self._writing, self._thread = threading.Lock(), 0
        self._began_at = time.monotonic()

    def answer(self, question: bytes, weights: Any = None) -> bytes:
        """Call a method of the share of environments.

        Args:
            question: Pickled name and arguments of the method.
            weights: Version of the weights that the method needs, if any.

        Returns:
            What ``lit_rl.envs.workers.process.answer`` returns.
        """
        from lit_rl.collect.workers.process import CollectingShare  # imports torch
        from lit_rl.envs.workers.process import answer

        self._began_at, self._thread = time.monotonic(), threading.get_ident()
        if self._share is None:
            self._share = CollectingShare(*self._memories)
        if weights is not None:
            self.take_weights(weights)
        return answer(self._share, question)

    def take_weights(self, weights: Any) -> None:
        """Put a version of the weights, newer than those that are here, where the policy looks for it."""
        from lit_rl.collect.workers.policy import write_weights

        with self._writing:
            if weights.published.counter > self._counter and weights.layout.offsets:
                write_weights(self._memories[1], weights)
                self._counter = weights.published.counter

    def silence_s(self) -> float:
        """Return the seconds since the environments last showed that they live."""
        control = getattr(self._share, "control", None)
        signs = [self._began_at]
        if control is not None:
            signs.append(float(control.alive_at.max()))
        return time.monotonic() - max(signs)

    def trace(self) -> str:
        """Return what the thread that answers is doing, innermost call first."""
        frame = sys._current_frames().get(self._thread)
        lines = [] if frame is None else traceback.extract_stack(frame)
        return "\n".join(f'File "{at.filename}", line {at.lineno} in {at.name}' for at in reversed(lines))

    def pid(self) -> int:
        """Return the number of this process."""
        return os.getpid()

    def close(self) -> None:
        """Close the environments."""
        if self._share is not None:
            self._share.close()
