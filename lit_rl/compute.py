"""Threads and matrix-product route of this process: how both are chosen, set, and put back."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, TypeAlias

import torch

from lit_rl.processes import allowed_cores

WIDE = 256
"""Layers at least this wide gain from more threads and from another product route."""

LARGE = WIDE * 256
"""Narrower layers gain from more threads, too, with so many values (rows times width) in a minibatch: see
``tests/benchmarks/bench_threads.py``."""

TOLERANCE = 1e-5
"""Relative error of a product that still counts as float32. Rounding to bfloat16 gives some 1e-3."""

MatmulPrecision: TypeAlias = Literal["auto", "highest", "high", "medium"]


def choose_threads(
    width: int, rows: int, local_world_size: int, requested: int | Literal["auto"]
) -> tuple[int, str]:
    """Choose the number of OpenMP threads, and say why.

    ``auto`` takes 1 for networks narrower than ``WIDE`` with minibatches smaller than ``LARGE``, otherwise
    this rank's share of the idle cores. The load of the last minute, this process included, counts as busy
    cores: one thread too few costs little, one too many on a busy machine costs several times.

    Args:
        width: Width of the widest layer.
        rows: Rows of a minibatch; 1 where they are not known.
        local_world_size: Number of ranks on this machine.
        requested: A number of threads, or ``auto``.

    Raises:
        ValueError: ``requested`` is neither ``auto`` nor at least 1.
    """
    if requested != "auto":
        if not isinstance(requested, int) or requested < 1:
            raise ValueError(f"The number of threads must be 'auto' or at least 1, got {requested!r}.")
        return requested, "as set"
    if width < WIDE and rows * width < LARGE:
        return 1, f"auto: layers of width {width} and minibatches of {rows} rows are too small to share"
    allowed, total = allowed_cores(), os.cpu_count() or 1
    idle = max(1, min(allowed, round(total - _load())))
    threads = max(1, idle // local_world_size)
    return threads, f"auto: {idle} of {allowed} cores are idle, {local_world_size} ranks share them"


def choose_matmul_precision(
    width: int, requested: MatmulPrecision, device_type: str = "cpu"
) -> tuple[str, str]:
    """Choose a setting for ``torch.set_float32_matmul_precision``, and say why.

    On CPUs ``medium`` only permits bfloat16: without matrix units for it, torch computes in float32 by
    another and often faster route. ``auto`` measures speed and error of one product, for wide networks.

    Args:
        width: Width of the widest layer.
        requested: A setting of torch, or ``auto``.
        device_type: Type of the device that the networks are on; off the CPU ``auto`` keeps ``highest``.

    Raises:
        ValueError: ``requested`` is not a setting.
    """
    if requested in ("highest", "high", "medium"):
        return requested, "as set"
    if requested != "auto":
        raise ValueError(f"matmul_precision must be auto, highest, high or medium; got {requested!r}.")
    if device_type != "cpu":
        return "highest", f"auto: probed on CPUs only, networks are on {device_type}"
    if width < WIDE:
        return "highest", f"auto: layers of width {width} are too narrow to gain (below {WIDE})"
    before = torch.get_float32_matmul_precision()
    try:
        highest_s, _ = _probe("highest")
        medium_s, error = _probe("medium")
    finally:
        torch.set_float32_matmul_precision(before)
    measured = f"medium takes {medium_s / highest_s:.2f} of the time, relative error {error:.1e}"
    # a tenth of margin keeps noise from choosing
    chosen = "medium" if medium_s < 0.9 * highest_s and error < TOLERANCE else "highest"
    return chosen, f"auto: {measured}"


def choose_settings(
    width: int,
    rows: int,
    local_world_size: int,
    device_type: str,
    threads: int | Literal["auto"],
    matmul_precision: MatmulPrecision,
    resumed: Mapping[str, Any] | None = None,
) -> tuple[ProcessSettings, str]:
    """Choose both settings of this process, and say why in one line.

    Args:
        width: Width of the widest layer.
        rows: Rows of a minibatch.
        local_world_size: Number of ranks on this machine.
        device_type: Type of the device that the networks are on.
        threads: A number of threads, or ``auto``.
        matmul_precision: A setting of torch, or ``auto``.
        resumed: ``threads`` and ``matmul_precision`` of the run that goes on, which ``auto`` then keeps.
    """
    if resumed is None:
        number, why_number = choose_threads(width, rows, local_world_size, threads)
        precision, why_precision = choose_matmul_precision(width, matmul_precision, device_type)
    else:
        number = resumed["threads"] if threads == "auto" else int(threads)
        precision = resumed["matmul_precision"] if matmul_precision == "auto" else matmul_precision
        why_number = why_precision = "as in the checkpoint, unless set"
    why = f"{number} threads ({why_number}), matmul precision {precision} ({why_precision})"
    return ProcessSettings(number, precision), why


class ProcessSettings:
    """Threads and matrix-product precision of this process, applied and put back.

    Meanwhile Python's garbage collector leaves alone what existed before (``gc.freeze``): going through the
    objects of torch and Lightning again and again finds nothing and empties the caches between two batches.

    Args:
        threads: Number of OpenMP threads.
        matmul_precision: ``highest``, ``high`` or ``medium``.
    """

    def __init__(self, threads: int, matmul_precision: str) -> None:
        self.threads = threads
        self.matmul_precision = matmul_precision
        self._before: tuple[int, str] | None = None
        self._has_frozen = False

    def apply(self) -> None:
        """Set threads and precision, and remember what was set before the first call."""
        if self._before is None:
            self._before = torch.get_num_threads(), torch.get_float32_matmul_precision()
            self._has_frozen = gc.get_freeze_count() == 0  # unless somebody else did
            if self._has_frozen:
                gc.freeze()
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul_precision)

    def restore(self) -> None:
        """Put back what :meth:`apply` found. May be called twice, or without ``apply``."""
        if self._before is not None:
            threads, precision = self._before
            torch.set_num_threads(threads)
            torch.set_float32_matmul_precision(precision)
            if self._has_frozen:
                gc.unfreeze()
            self._before = None

    def __enter__(self) -> ProcessSettings:
        self.apply()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


def _load() -> float:
    """Return the mean number of running processes in the last minute; 0 where it is not known (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _probe(precision: str, size: int = 256, repeats: int = 7) -> tuple[float, float]:
    """Measure a product of two (size, size) matrices: its shortest time in s and largest relative error."""
    torch.set_float32_matmul_precision(precision)
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, size, size, generator=generator)
    product = a @ b  # also warms the route up
    exact = a.double() @ b.double()
    error = ((product - exact).abs().max() / exact.abs().max()).item()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - start)
    return min(seconds), error
