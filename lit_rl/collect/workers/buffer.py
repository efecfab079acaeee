"""Slots of shared memory into which worker processes write whole rollouts, and from which they are read.

Axes: T steps, N environments.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lit_rl.collect.storage import PrivateMemory
from lit_rl.envs.workers.shared_arrays import Place, map_arrays, open_memory
from lit_rl.types import Nested, Rollout

_ALIGNMENT = 64
_PAGE = mmap.PAGESIZE
TIME_FIELDS = ("obs", "reset", "action", "reward", "terminated", "truncated", "extras", "metrics")
"""Fields of a rollout with a time axis, which lie in the slot."""


class SlotState(IntEnum):
    """What happens with the part of a slot that belongs to one worker."""

    FREE = 0
    WRITING = 1
    READY = 2
    READING = 3


class Shared(NamedTuple):
    """Stands for an array of a rollout that a worker left in its part of a slot.

    Args:
        path: Keys that lead to it in ``Rollout``.
        num_steps: Entries of its first axis that were written.
    """

    path: tuple[str, ...]
    num_steps: int


class Layout(NamedTuple):
    """Says where the arrays of the slots lie, for all processes.

    Args:
        places: Place of each array ``(slots, T or T + 1, N, ...)``, by the keys that lead to it.
        size: Number of bytes of the memory.
    """

    places: dict[tuple[str, ...], Place]
    size: int


class Control:
    """States of all slots, and the moments of the workers' last signs of life, at the head of the memory.

    Args:
        memory: File descriptor of the memory.
        num_slots: Number of slots.
        num_workers: Number of workers.
    """

    def __init__(self, memory: int, num_slots: int, num_workers: int) -> None:
        stamps = _aligned(8 * num_workers)
        self.size = _aligned(stamps + num_slots * num_workers, _PAGE)
        places = {
            "alive_at": Place(0, (num_workers,), "<f8"),
            "state": Place(stamps, (num_slots, num_workers), "|u1"),
        }
        grown = max(self.size, os.fstat(memory).st_size)  # a worker that joins later must not cut it
        arrays = map_arrays(memory, places, grown)
        self.alive_at: np.ndarray = arrays["alive_at"]
        self.state: np.ndarray = arrays["state"]

    def release(self) -> None:
        """Let go of the mapped memory."""
        self.alive_at, self.state = self.alive_at.copy(), self.state.copy()

    def beat(self, worker: int) -> None:
        """Note that a worker lives; ``time.monotonic`` is one clock for all processes."""
        self.alive_at[worker] = time.monotonic()


class SharedExperienceBuffer:
    """Slots, each for one rollout of all workers: each of them writes its own environments' columns.

    A part of a slot goes from FREE to WRITING when its worker begins, to READY when the rollout is whole, to
    READING while it is copied out, and to FREE again. Only the worker moves it to WRITING and READY, only the
    reader to READING and FREE, so that no lock is needed which a killed process could hold for ever.

    The memory has no name: nothing is left of it when all processes are killed. The arrays are laid out
    after the first rollout, which comes through the workers' connections and shows what there is.

    Args:
        num_envs: Number N of environments.
        num_workers: Number of workers.
        num_slots: Number of slots.

    Raises:
        MemoryError: The memory is full.
    """

    def __init__(self, num_envs: int, num_workers: int, num_slots: int = 1) -> None:
        self.num_envs, self.num_slots = num_envs, num_slots
        self.memory = open_memory()
        try:
            self.control = Control(self.memory, num_slots, num_workers)
        except BaseException:
            os.close(self.memory)
            raise
        self.layout: Layout | None = None
        self.num_steps = 0
        """Steps for which a slot has room."""
        self._arrays: dict[tuple[str, ...], np.ndarray] = {}

    @property
    def size(self) -> int:
        """Number of bytes of the slots."""
        return self.control.size if self.layout is None else self.layout.size

    def lay_out(self, example: Rollout) -> Layout:
        """Make room for rollouts like one of all environments.

        Raises:
            MemoryError: There is not so much memory; the message says how much is needed and what to do.
        """
        places: dict[tuple[str, ...], Place] = {}
        offset = self.control.size
        for key in TIME_FIELDS:
            for path, leaf in _paths(example[key], (key,)):  # type: ignore[literal-required]
                dtype = _numpy_dtype(leaf.dtype)
                if dtype is None:  # travels through the connection
                    continue
                places[path] = Place(offset, (self.num_slots, *leaf.shape), dtype.str)
                offset = _aligned(offset + self.num_slots * leaf.nbytes)
        size = max(_aligned(offset, _PAGE), self.size)  # a file that shrinks would kill whoever maps it
        self._allocate(size)
        self.layout, self.num_steps = Layout(places, size), len(example["reward"])
        self._arrays = map_layout(self.memory, self.layout)
        return self.layout

    def _allocate(self, size: int) -> None:
        need = f"{size / 2**20:,.1f} MiB for {self.num_slots} rollout(s) of {self.num_envs} environments"
        advice = "fewer num_envs or rollout_steps need less"
        free = _available_bytes()
        if free is not None and size - self.size > free:
            raise MemoryError(
                f"the shared experience buffer needs {need}, but {free / 2**20:,.1f} MiB of memory are free; "
                f"{advice}"
            )
        try:
            if hasattr(os, "posix_fallocate"):  # a page that is missing later would kill with SIGBUS
                os.posix_fallocate(self.memory, 0, size)
        except OSError as error:
            raise MemoryError(
                f"the shared experience buffer needs {need}, but the system refuses ({error.strerror}); "
                f"{advice}"
            ) from error

    def read(self, slot: int, leaf: Shared, rows: slice | None = None) -> np.ndarray:
        """Return a copy of an array of a slot: of all environments, or those of ``rows``."""
        array = self._arrays[leaf.path][slot, : leaf.num_steps]
        return array.copy() if rows is None else array[:, rows].copy()

    def begin_reading(self, slot: int) -> None:
        """Claim a slot that all workers have filled.

        Raises:
            RuntimeError: A part is not ready.
        """
        states = self.control.state[slot]
        if (states != SlotState.READY).any():
            names = ", ".join(SlotState(state).name for state in states.tolist())
            raise RuntimeError(f"slot {slot} of the experience buffer is read before it is READY: {names}")
        states[:] = SlotState.READING

    def free(self, slot: int) -> None:
        """Give a slot back to all workers."""
        self.control.state[slot] = SlotState.FREE

    def reclaim(self, worker: int) -> int:
        """Free the parts that a worker was writing when it ended, and return their number."""
        states = self.control.state[:, worker]
        lost = states == SlotState.WRITING
        states[lost] = SlotState.FREE
        return int(lost.sum())

    def release(self) -> None:
        """Let go of the mapped memory; its owner closes the file descriptor."""
        self._arrays = {}
        self.control.release()


class SlotMemory(PrivateMemory):
    """Memory for the rollout of one worker: its columns of a slot, and its own where the slot has no room.

    Args:
        arrays: Arrays of all slots.
        slot: Number of the slot.
        rows: Environments of the worker.
    """

    def __init__(self, arrays: dict[tuple[str, ...], np.ndarray], slot: int, rows: slice) -> None:
        self._arrays, self._slot, self._rows = arrays, slot, rows
        self._given: dict[tuple[str, ...], int] = {}

    def array(self, path: tuple[str, ...], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """Return the worker's columns of an array of the slot, or a new array."""
        array = self._arrays.get(path)
        if array is None or not _has_room(array, shape[0], shape[2:], dtype):
            return super().array(path, shape, dtype)
        self._given[path] = shape[0]
        return array[self._slot, : shape[0], self._rows]

    def tensor(self, path: tuple[str, ...], shape: tuple[int, ...], like: Tensor) -> Tensor:
        """Return such columns, or a new tensor."""
        dtype = _numpy_dtype(like.dtype)
        if dtype is None:
            return super().tensor(path, shape, like)
        return torch.from_numpy(self.array(path, shape, dtype))

    def replace(self, path: tuple[str, ...], leaf: Tensor) -> Shared | np.ndarray | Tensor:
        """Return what is sent for a tensor of the rollout: where it lies, or itself."""
        if path in self._given:
            return Shared(path, self._given[path])
        return leaf if _numpy_dtype(leaf.dtype) is None else leaf.numpy()


def map_layout(memory: int, layout: Layout) -> dict[tuple[str, ...], np.ndarray]:
    """Map the arrays of all slots."""
    names = {str(i): place for i, place in enumerate(layout.places.values())}
    arrays = map_arrays(memory, names, layout.size)
    return dict(zip(layout.places, arrays.values(), strict=True))


def _paths(tree: Nested, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Yield pairs of the keys that lead to a leaf, and the leaf."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _paths(value, (*path, key))
    else:
        yield path, tree


def _has_room(array: np.ndarray, num_steps: int, shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return array.dtype == dtype and array.shape[3:] == shape and num_steps <= array.shape[1]


def _numpy_dtype(dtype: torch.dtype) -> np.dtype | None:
    """Return numpy's name for a dtype of torch; None where it has none, as for bfloat16."""
    try:
        return torch.empty(0, dtype=dtype).numpy().dtype
    except TypeError:
        return None


def _aligned(size: int, to: int = _ALIGNMENT) -> int:
    return -(-size // to) * to


def _available_bytes() -> int | None:
    """Return the bytes of memory that are free for this process; None where the system does not say."""
    try:
        with open("/proc/meminfo") as lines:  # noqa: PTH123
            told = dict(line.split(":", 1) for line in lines)
        free = 1024 * int(told["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None
    return free
