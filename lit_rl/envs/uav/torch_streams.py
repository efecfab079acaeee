"""The random streams of ``streams.py`` on a device: the same numbers, in the wrapping int64 of torch.

Axes: N environments (a stream each), E chosen environments.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_rl.envs.uav.streams import Streams, box_muller
from lit_rl.envs.uav.torch_arrays import TorchArrays

_STEP = 0x9E3779B97F4A7C15 - 2**64  # the bits of the unsigned constants
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64


class TorchStreams:
    """Draws what :class:`Streams` draws, number for number; ``rows`` and results are tensors on the device.

    Args:
        seed: Stream i has the seed ``seed + i``.
        num: Number N of streams.
        xp: Arrays of the device.
    """

    def __init__(self, seed: int, num: int, xp: TorchArrays) -> None:
        self._xp = xp
        self.set_state(Streams(seed, num).get_state())

    def uniform(self, rows: Tensor, num: int) -> Tensor:
        """The next ``num`` numbers in [0, 1) of the E streams ``rows``: ``(E, num)`` float64."""
        numbers = self._numbers(self._key[rows], self._count[rows], num)
        self._count[rows] += num
        return numbers

    def uniform_where(self, has_N: Tensor, num: int) -> tuple[slice, Tensor]:
        """The numbers of all streams ``(N, num)``; only those where ``has_N`` move on, so nothing waits."""
        numbers = self._numbers(self._key, self._count, num)
        self._count += num * has_N
        return slice(None), numbers

    def normal(self, rows: Tensor, num: int) -> Tensor:
        """The next ``num`` standard normal numbers: ``(E, num)`` float64."""
        return box_muller(self.uniform(rows, 2 * ((num + 1) // 2)), num, self._xp)

    def _numbers(self, key: Tensor, count: Tensor, num: int) -> Tensor:
        index = count[:, None] + self._xp.arange(1, num + 1)
        bits = _mix(key[:, None] + index * _STEP)
        return _shift(bits, 11).to(torch.float64) * 2.0**-53

    def get_state(self) -> dict[str, Any]:
        """Keys and counters, as tensors on the CPU; those of :class:`Streams`."""
        return {"key": self._key.to("cpu", copy=True), "count": self._count.to("cpu", copy=True)}

    @torch.inference_mode(False)  # counters are written to outside of that mode, too
    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`get_state`."""
        self._key, self._count = (state[name].to(self._xp.device, copy=True) for name in ("key", "count"))


def _shift(bits: Tensor, by: int) -> Tensor:
    """Shift to the right with zeros, as unsigned numbers are shifted."""
    return (bits >> by) & ((1 << (64 - by)) - 1)


def _mix(bits: Tensor) -> Tensor:
    """The finaliser of SplitMix64."""
    bits = (bits ^ _shift(bits, 30)) * _FIRST
    bits = (bits ^ _shift(bits, 27)) * _SECOND
    return bits ^ _shift(bits, 31)
