"""Arrays in memory that processes share. It has no name, so nothing is left of it when they are killed."""

from __future__ import annotations

import mmap
import os
import tempfile
from math import prod
from typing import NamedTuple

import numpy as np

from lit_rl.nested import map_nested
from lit_rl.types import Nested, NestedArray

_ALIGNMENT = 64


class Place(NamedTuple):
    """Says where an array lies in the memory.

    Args:
        offset: First byte of the array.
        shape: Shape of the array.
        dtype: Dtype of the array, as ``numpy.dtype`` takes it.
    """

    offset: int
    shape: tuple[int, ...]
    dtype: str


def open_memory() -> int:
    """Return a file descriptor of empty memory for other processes; ``os.close`` gives it back."""
    if hasattr(os, "memfd_create"):  # counts as memory of the process, not as /dev/shm, which may be small
        return os.memfd_create("lit_rl")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def place(examples: NestedArray) -> tuple[Nested, int]:
    """Return places for arrays like ``examples``, and the number of bytes of all of them."""
    size = 0

    def next_place(example: np.ndarray) -> Place:
        nonlocal size
        offset = size
        size += -(-example.nbytes // _ALIGNMENT) * _ALIGNMENT
        return Place(offset, example.shape, example.dtype.str)

    places = map_nested(next_place, examples)
    return places, size


def map_arrays(memory: int, places: Nested, size: int) -> NestedArray:
    """Return the arrays at ``places`` of the memory; every process that maps them sees the same ones."""
    os.ftruncate(memory, size)
    pages = mmap.mmap(memory, size)

    def view(at: Place) -> np.ndarray:
        flat = np.frombuffer(pages, at.dtype, prod(at.shape), at.offset)
        return flat.reshape(at.shape)

    return map_nested(view, places)
