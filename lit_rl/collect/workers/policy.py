"""A policy in worker processes: its object travels once, its weights through shared memory for every version.

Weights have a version counter that is odd while they are written, a checksum, and the number of the policy.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import time
import zlib
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, NoReturn

import cloudpickle
import numpy as np
import torch
from torch import Tensor, nn

from lit_rl.envs.workers.importable import refuse_main
from lit_rl.envs.workers.shared_arrays import open_memory
from lit_rl.types import Policy

_ALIGNMENT = 64
_HEADER_BYTES = 64
_TRIES = 100
_PLAIN = (bool, int, float, str, type(None))
_received: list[Tensor] = []  # what the pickle that is being read refers to


class Layout(NamedTuple):
    """Says where the tensors of a policy lie in the memory of the weights.

    Args:
        offsets: First byte of each tensor.
        shapes: Shape of each tensor.
        dtypes: Dtype of each tensor.
        size: Number of bytes of all of them.
    """

    offsets: list[int]
    shapes: list[tuple[int, ...]]
    dtypes: list[torch.dtype]
    size: int

    def views(self, memory: Tensor) -> list[Tensor]:
        """Return the tensors in bytes of ``memory``."""
        places = zip(self.offsets, self.shapes, self.dtypes, strict=True)
        return [
            memory[start : start + shape_bytes(shape, dtype)].view(dtype).view(shape)
            for start, shape, dtype in places
        ]


class Published(NamedTuple):
    """Identifies weights that were published.

    Args:
        counter: Value of the version counter, which is even.
        checksum: CRC-32 of the bytes.
    """

    counter: int
    checksum: int


class Weights(NamedTuple):
    """A version of the weights, for workers that do not see the trainer's memory.

    Args:
        layout: Places of the tensors in ``data``.
        published: Identity of the published weights.
        version: Number of the policy.
        data: The bytes of all tensors.
    """

    layout: Layout
    published: Published
    version: int
    data: np.ndarray


class PolicyPublisher:
    """Publishes the versions of a policy: the trainer's side.

    What acting may depend on reaches the workers: parameters, buffers, and plain attributes (numbers, text)
    of all modules with each version; everything else of the object when it is sent, which happens again when
    the policy or one of its tensors is another object. A policy that is no module is sent when its pickle
    differs.

    Args:
        by_name: Whether workers import classes by name, so that none may be of ``__main__``.

    Raises:
        TypeError: A policy cannot be pickled.
    """

    def __init__(self, by_name: bool = False) -> None:
        self._by_name = by_name
        self.memory = open_memory()
        self._policy: Policy | None = None
        self._pickled = b""
        self._modules: list[nn.Module] = []
        self._sources: list[Tensor] = []
        self._targets: list[Tensor] = []
        self._attributes: list[dict[str, Any]] = []
        self._layout = Layout([], [], [], 0)
        self._header = np.zeros(0, np.int64)
        self._bytes = np.zeros(0, np.uint8)
        self._counter = 0
        self.number = 0
        """Counts the objects that were sent, so that a worker's may be compared with it."""

    def knows(self, policy: Policy) -> bool:
        """Whether the next version of a policy goes where the one before lies."""
        if not isinstance(policy, nn.Module) or policy is not self._policy:
            return False
        return _same([*policy.parameters(), *policy.buffers()], self._sources)

    def publish(self, policy: Policy, version: int = 0) -> tuple[Published, dict[int, dict[str, Any]]]:
        """Publish the present version of a policy, under the number ``version``.

        Returns:
            What identifies the weights, and what changed of the plain attributes of its modules.
        """
        changed = self._look_at(policy)
        if not self._sources:
            return Published(0, 0), changed
        header = self._header
        header[0] = self._counter = self._counter + 1  # odd: whoever reads now tries again
        with torch.no_grad():
            for target, source in zip(self._targets, self._sources, strict=True):
                target.copy_(source)
        checksum = _checksum(self._bytes)
        header[1:] = checksum, version
        header[0] = self._counter = self._counter + 1
        return Published(self._counter, checksum), changed

    def message(self) -> tuple[bytes, Layout]:
        """Return what a worker needs of the policy before its first version."""
        return self._pickled, self._layout

    def anew(self) -> tuple[bytes, Layout]:
        """Return the same for a worker that starts now, with the plain attributes as they are."""
        if isinstance(self._policy, nn.Module):
            self._pickled = _pickle(self._policy, self._sources, self._by_name)
        return self.message()

    @property
    def counter(self) -> int:
        """Version counter of the weights that were published last."""
        return self._counter

    def snapshot(self) -> Weights:
        """Return a copy of the version that was published last."""
        counter, checksum, version = self._header.tolist() if self._sources else (0, 0, 0)
        return Weights(self._layout, Published(counter, checksum), version, self._bytes.copy())

    def _look_at(self, policy: Policy) -> dict[int, dict[str, Any]]:
        if not isinstance(policy, nn.Module):
            pickled = _pickle(policy, [], self._by_name)
            if pickled != self._pickled:
                self._modules, self._sources, self._attributes = [], [], []
                self._layout = Layout([], [], [], 0)
                self._pickled, self._policy, self.number = pickled, policy, self.number + 1
            return {}
        modules = list(policy.modules())
        sources = [*policy.parameters(), *policy.buffers()]
        attributes = [_plain(module) for module in modules]
        if policy is self._policy and _same(modules, self._modules) and _same(sources, self._sources):
            changed = {
                i: {name: value for name, value in now.items() if name not in old or old[name] != value}
                for i, (now, old) in enumerate(zip(attributes, self._attributes, strict=True))
                if now != old
            }
            self._attributes = attributes
            return changed
        self._pickled = _pickle(policy, sources, self._by_name)
        self._policy, self._modules, self._sources = policy, modules, sources
        self._attributes, self.number = attributes, self.number + 1
        self._map()
        return {}

    def _map(self) -> None:
        self._layout = lay_out(self._sources)
        self._header, self._bytes = map_weights(self.memory, self._layout)
        self._targets = self._layout.views(torch.from_numpy(self._bytes))

    def release(self) -> None:
        """Let go of policy and memory; its owner closes the file descriptor."""
        self._policy, self._modules, self._sources, self._targets = None, [], [], []
        self._header, self._bytes = np.zeros(0, np.int64), np.zeros(0, np.uint8)


class ReceivedPolicy:
    """A policy in a worker, whose tensors are private copies of what was published.

    Args:
        memory: File descriptor of the weights.
        pickled: The object.
        layout: Places of the weights.
    """

    def __init__(self, memory: int, pickled: bytes, layout: Layout) -> None:
        self._private = torch.empty(layout.size, dtype=torch.uint8)
        self._arriving = np.empty(layout.size, np.uint8)
        self._counter = self._version = 0
        self._is_empty = not layout.offsets
        if not self._is_empty:
            self._header, self._bytes = map_weights(memory, layout)
        self.policy: Any = unpickle(pickled, layout.views(self._private))
        self._modules: list[nn.Module] = []
        if isinstance(self.policy, nn.Module):
            self.policy.cpu()  # its tensors are there already, but it may remember the trainer's device
            self._modules = list(self.policy.modules())

    @property
    def version(self) -> int:
        """Number of the policy whose weights these are."""
        return self._version

    def update(self, published: Published, changed: dict[int, dict[str, Any]]) -> None:
        """Take over a version, or a later one where the trainer has gone on meanwhile.

        Raises:
            RuntimeError: The weights are not those that were published.
        """
        for i, attributes in changed.items():
            self._modules[i].__dict__.update(attributes)
        if self._is_empty:
            return
        found = self._copy()
        if found.counter < published.counter or (
            found.counter == published.counter and found.checksum != published.checksum
        ):
            self._refuse(published, found)

    def refresh(self) -> None:
        """Take over the newest version.

        Raises:
            RuntimeError: The weights are not those that were published.
        """
        if not self._is_empty and int(self._header[0]) != self._counter:
            self._copy()

    def _copy(self) -> Published:
        """Copy the newest version; the private weights change only once it is whole."""
        for _ in range(_TRIES):
            before, told, version = self._header.tolist()
            if before % 2 == 0:
                np.copyto(self._arriving, self._bytes)
                found = Published(before, _checksum(self._arriving))
                if int(self._header[0]) == before:
                    break
            time.sleep(0.001)
        else:
            raise RuntimeError(
                f"the weights were being written for {_TRIES} ms; the trainer hangs in between"
            )
        if found.checksum != told:
            self._refuse(Published(before, told), found)
        np.copyto(self._private.numpy(), self._arriving)
        self._counter, self._version = before, version
        return found

    def _refuse(self, published: Published, found: Published) -> NoReturn:
        raise RuntimeError(
            f"weights with counter {published.counter} and checksum {published.checksum:08x} were "
            f"published, {found.counter} and {found.checksum:08x} arrived: the shared memory is damaged"
        )


def _checksum(data: np.ndarray) -> int:
    return zlib.crc32(memoryview(data))  # type: ignore[arg-type]  # arrays are buffers


def lay_out(tensors: Iterable[Tensor]) -> Layout:
    """Give each tensor a place."""
    offsets, shapes, dtypes, size = [], [], [], 0
    for tensor in tensors:
        offsets.append(size)
        shapes.append(tuple(tensor.shape))
        dtypes.append(tensor.dtype)
        size += -(-tensor.numel() * tensor.element_size() // _ALIGNMENT) * _ALIGNMENT
    return Layout(offsets, shapes, dtypes, size)


def shape_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Return the number of bytes of a tensor."""
    return torch.Size(shape).numel() * dtype.itemsize


def write_weights(memory: int, weights: Weights) -> None:
    """Put a version that arrived by other ways where :class:`ReceivedPolicy` looks for it."""
    header, data = map_weights(memory, weights.layout)
    header[0] = weights.published.counter - 1  # odd: whoever reads now tries again
    np.copyto(data, weights.data)
    header[1:] = weights.published.checksum, weights.version
    header[0] = weights.published.counter


def map_weights(memory: int, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Map the weights: return the header (counter, checksum, version) and the bytes of all tensors."""
    size = max(_HEADER_BYTES + layout.size, os.fstat(memory).st_size)
    os.ftruncate(memory, size)
    pages = mmap.mmap(memory, size)
    header = np.frombuffer(pages, np.int64, 3)
    return header, np.frombuffer(pages, np.uint8, layout.size, _HEADER_BYTES)


def unpickle(pickled: bytes, tensors: list[Tensor]) -> Any:
    """Read what :func:`_pickle` wrote, with ``tensors`` in place of those that it left out."""
    _received[:] = tensors
    try:
        return pickle.loads(pickled)
    finally:
        _received.clear()


def _pickle(policy: Policy, left_out: list[Tensor], by_name: bool = False) -> bytes:
    """Pickle a policy without some tensors."""
    file = io.BytesIO()
    try:
        _PolicyPickler(file, left_out, by_name).dump(policy)
    except Exception as error:
        raise TypeError(
            f"worker processes act by the policy, but {type(policy).__name__} cannot be pickled ({error}); "
            "collector='inline' acts in this process"
        ) from error
    return file.getvalue()


class _PolicyPickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, left_out: list[Tensor], by_name: bool) -> None:
        super().__init__(file)
        self._by_name = by_name
        self._numbers = {id(tensor): i for i, tensor in enumerate(left_out)}

    def reducer_override(self, obj: Any) -> Any:
        if self._by_name:
            refuse_main(obj)
        if isinstance(obj, Tensor):
            number = self._numbers.get(id(obj))
            if number is not None:
                return _take, (number, isinstance(obj, nn.Parameter))
            if obj.device.type != "cpu" or obj.untyped_storage().nbytes() > obj.nbytes:
                return obj.detach().cpu().clone().__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if type(obj) is partial and _holds_a_parser(obj):
            return _make_factory, (obj.args[-1], obj.keywords)
        return super().reducer_override(obj)


def _holds_a_parser(factory: partial[Any]) -> bool:
    """Tell whether a factory is one that the command line makes of a ``class_path``, with its parser."""
    module = getattr(factory.func, "__module__", None) or ""
    return module.partition(".")[0] == "jsonargparse" and isinstance(factory.args[-1], type)


def _make_factory(made: type, keywords: dict[str, Any]) -> partial[Any]:
    return partial(made, **keywords)


def _take(number: int, is_parameter: bool) -> Tensor:
    tensor = _received[number]
    return nn.Parameter(tensor, requires_grad=False) if is_parameter else tensor


def _plain(module: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in module.__dict__.items() if type(value) in _PLAIN}


def _same(ours: list[Any], theirs: list[Any]) -> bool:
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))
