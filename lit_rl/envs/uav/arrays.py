"""Where arrays live and who computes on them: one set of formulas for numpy and for torch on any device.

The formulas take an argument ``xp`` and call functions by numpy's names on it, in the meaning of numpy:
``NumpyArrays``, which is numpy itself, or ``TorchArrays`` (``torch_arrays.py``). Only what the formulas use
is there, with ``out=`` and gathers by several indices, which the array API standard does not have. Operators
and the methods ``sum``, ``any``, ``argmax``, ``reshape``, ``swapaxes`` and ``view`` mean the same in both
libraries and are called directly.
"""

from __future__ import annotations

import re
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

Array: TypeAlias = Any
"""A numpy array, or a torch tensor on the device."""
Library: TypeAlias = Any
"""``NumpyArrays`` or ``TorchArrays``, called ``xp`` as with the array API standard."""
Backend: TypeAlias = Literal["auto", "numpy", "torch"]


class NumpyArrays:
    """Numpy under its own names; what has no function there is a method of the array."""

    is_host = True
    """Results can be looked at without waiting for a device."""
    float32, int32, int64, bool_ = np.float32, np.int32, np.int64, np.bool_

    sqrt, square, exp = staticmethod(np.sqrt), staticmethod(np.square), staticmethod(np.exp)
    log2, log10, log1p = staticmethod(np.log2), staticmethod(np.log10), staticmethod(np.log1p)
    sin, cos = staticmethod(np.sin), staticmethod(np.cos)
    arctan2, hypot = staticmethod(np.arctan2), staticmethod(np.hypot)
    floor, rint, clip = staticmethod(np.floor), staticmethod(np.rint), staticmethod(np.clip)
    maximum, minimum = staticmethod(np.maximum), staticmethod(np.minimum)
    subtract, divide = staticmethod(np.subtract), staticmethod(np.divide)
    where, einsum, concatenate = staticmethod(np.where), staticmethod(np.einsum), staticmethod(np.concatenate)
    zeros, empty, arange = staticmethod(np.zeros), staticmethod(np.empty), staticmethod(np.arange)
    asarray, flatnonzero = staticmethod(np.asarray), staticmethod(np.flatnonzero)
    take_along_axis, put_along_axis = staticmethod(np.take_along_axis), staticmethod(np.put_along_axis)
    astype, copy = staticmethod(np.ndarray.astype), staticmethod(np.ndarray.copy)
    take, min, max = staticmethod(np.ndarray.take), staticmethod(np.ndarray.min), staticmethod(np.ndarray.max)

    @staticmethod
    def lowest(whole: np.ndarray, k: int) -> np.ndarray:
        """The k smallest of each row, ascending; ``whole`` is overwritten."""
        whole.sort(-1)
        return whole[..., :k]


NUMPY: Library = NumpyArrays()


def make_arrays(device: str, backend: Backend) -> Library:
    """``NumpyArrays`` or ``TorchArrays``, whose names are the same.

    Args:
        device: ``cpu``, ``cuda`` or ``cuda:<number>``.
        backend: ``auto`` is numpy on the CPU and torch elsewhere.

    Raises:
        ValueError: There is no such device or backend, or numpy is asked to compute on a GPU.
    """
    device = str(device)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise ValueError(f"device must be cpu, cuda or cuda:<number>, got {device!r}; give one of these")
    if backend not in get_args(Backend):
        raise ValueError(
            f"backend must be {', '.join(get_args(Backend))}, got {backend!r}; give one of these"
        )
    if backend == "numpy" and device != "cpu":
        raise ValueError(
            f"backend='numpy' computes on the CPU only, got device={device!r}; leave backend out, or give "
            "device=cpu"
        )
    if device == "cpu" and backend != "torch":
        return NUMPY
    from lit_rl.envs.uav.torch_arrays import TorchArrays, check_cuda  # brings torch, which numpy does without

    if device != "cpu":
        check_cuda(device)
    return TorchArrays(device)
