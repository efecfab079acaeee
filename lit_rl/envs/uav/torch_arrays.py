"""Torch on one device under the names of ``NumpyArrays``, in the meaning of numpy.

Axes: N environments (networks), A agents (UAVs), G ground users.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TorchArrays:
    """The functions that the formulas use; nothing here waits for the device unless it says so.

    Args:
        device: Name of the device in torch; ``cuda`` is the current one.
    """

    is_host = False
    float32, int32, int64, bool_ = torch.float32, torch.int32, torch.int64, torch.bool

    sqrt, square, exp = staticmethod(torch.sqrt), staticmethod(torch.square), staticmethod(torch.exp)
    log2, log10, log1p = staticmethod(torch.log2), staticmethod(torch.log10), staticmethod(torch.log1p)
    sin, cos = staticmethod(torch.sin), staticmethod(torch.cos)
    arctan2, hypot = staticmethod(torch.arctan2), staticmethod(torch.hypot)
    floor, rint, where = staticmethod(torch.floor), staticmethod(torch.round), staticmethod(torch.where)
    subtract, concatenate = staticmethod(torch.subtract), staticmethod(torch.cat)
    take_along_axis = staticmethod(torch.take_along_dim)
    min, max = staticmethod(torch.amin), staticmethod(torch.amax)

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)
        if device == "cuda":  # by its number, whatever becomes the current one later
            self.device = torch.device("cuda", torch.cuda.current_device())

    @torch.inference_mode(False)  # what lives from step to step is written to outside of that mode, too
    def zeros(self, shape: int | Sequence[int], dtype: torch.dtype) -> Tensor:
        """Make zeros, as numpy does."""
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def empty(self, shape: int | Sequence[int], dtype: torch.dtype) -> Tensor:
        """Make an array of any values, as numpy does."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def arange(self, *limits: int) -> Tensor:
        """Count in int64."""
        return torch.arange(*limits, device=self.device)

    def asarray(self, values: Any, dtype: torch.dtype | None = None) -> Tensor:
        """Copy numbers or a numpy array to the device; tensors are moved there."""
        if isinstance(values, Tensor):
            return values.detach().to(self.device, dtype)
        return torch.tensor(values, dtype=dtype, device=self.device)

    @staticmethod
    def astype(x: Tensor, dtype: torch.dtype) -> Tensor:
        """Convert, without a copy where the dtype is the same."""
        return x.to(dtype)

    @staticmethod
    def copy(x: Tensor) -> Tensor:
        """Copy in the order of C."""
        return x.clone(memory_format=torch.contiguous_format)

    @staticmethod
    def maximum(x: Tensor, y: Tensor | float, out: Tensor | None = None) -> Tensor:
        """Take the larger values; ``y`` may be a number."""
        return torch.maximum(x, y, out=out) if isinstance(y, Tensor) else torch.clamp(x, min=y, out=out)

    @staticmethod
    def minimum(x: Tensor, y: Tensor | float, out: Tensor | None = None) -> Tensor:
        """``y`` may be a number."""
        return torch.minimum(x, y, out=out) if isinstance(y, Tensor) else torch.clamp(x, max=y, out=out)

    @staticmethod
    def divide(x: Tensor | float, y: Tensor, out: Tensor | None = None) -> Tensor:
        """``x`` may be a number."""
        return torch.divide(x if isinstance(x, Tensor) else y.new_full((), x), y, out=out)

    @staticmethod
    def clip(
        x: Tensor, low: float, high: float, out: Tensor | None = None, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Between two numbers, after conversion to ``dtype``."""
        return torch.clamp(x if dtype is None else x.to(dtype), low, high, out=out)

    @staticmethod
    def take(x: Tensor, indices: Tensor, axis: int | None = None) -> Tensor:
        """Take entries along one axis, or from the flat array."""
        return x.reshape(-1)[indices] if axis is None else x[(slice(None),) * axis + (indices,)]

    @staticmethod
    def put_along_axis(x: Tensor, indices: Tensor, value: Any, axis: int) -> None:
        """Write ``value`` at ``indices``, in place."""
        x.scatter_(axis, indices, value)

    @staticmethod
    def flatnonzero(x: Tensor) -> Tensor:
        """Waits for the device, because the number of indices decides the shape."""
        return x.reshape(-1).nonzero().reshape(-1)

    @staticmethod
    def lowest(whole: Tensor, k: int) -> Tensor:
        """The k smallest of each row, ascending."""
        return whole.topk(k, largest=False, sorted=True).values

    @staticmethod
    def einsum(pattern: str, x: Tensor, y: Tensor) -> Tensor:
        """Sum of products over the letters N, A and G, single spaces between them.

        Multiplied and added one by one: as a product of matrices its precision would be that of the
        learner's setting (TF32), which is too coarse for thresholds.
        """
        axes = ("N", "A", "G")
        names, result = pattern.split(" -> ")
        x, y = (
            array[tuple(slice(None) if letter in name else None for letter in axes)]
            for array, name in zip((x, y), names.split(", "), strict=True)
        )
        return (x * y).sum([axis for axis, letter in enumerate(axes) if letter not in result])


def to_host(tree: Any) -> Any:
    """The tensors of nested tuples and dicts as numpy arrays, all of them in one transfer.

    They travel as bytes in one tensor; the arrays are parts of one new buffer. None stays None.
    """
    leaves = list(_leaves(tree))
    # ascending offsets are multiples of 8 for every dtype when the wide ones come first
    order = sorted(range(len(leaves)), key=lambda index: -leaves[index].element_size())
    packed = torch.cat([leaves[index].contiguous().reshape(-1).view(torch.uint8) for index in order])
    buffer = packed.cpu().numpy()
    arrays: dict[int, np.ndarray] = {}
    start = 0
    for index in order:
        leaf = leaves[index]
        end = start + math.prod(leaf.shape) * leaf.element_size()
        arrays[index] = buffer[start:end].view(_numpy_dtype(leaf)).reshape(leaf.shape)
        start = end
    return _rebuild(tree, iter([arrays[index] for index in range(len(leaves))]))


def _numpy_dtype(leaf: Tensor) -> np.dtype:
    return torch.empty(0, dtype=leaf.dtype).numpy().dtype


def _leaves(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict | tuple):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from _leaves(item)


def _rebuild(tree: Any, arrays: Any) -> Any:
    """``tree`` with its tensors replaced in the order of :func:`_leaves`."""
    if isinstance(tree, Tensor):
        return next(arrays)
    if isinstance(tree, dict):
        return {key: _rebuild(item, arrays) for key, item in tree.items()}
    if isinstance(tree, tuple):
        items = [_rebuild(item, arrays) for item in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    return tree


def check_cuda(device: str) -> None:
    """Refuse a GPU that torch does not find.

    Raises:
        ValueError: There is none, or none of this number.
    """
    if not torch.cuda.is_available():
        raise ValueError(
            f"device={device!r} needs a GPU with CUDA, torch {torch.__version__} finds none; give "
            "device=cpu, or install a driver and a torch for it"
        )
    num, index = torch.cuda.device_count(), torch.device(device).index or 0
    if index >= num:
        raise ValueError(
            f"device={device!r} is not there, torch finds {num} GPU(s); give cuda:0 to cuda:{num - 1}"
        )
