"""Replay ring: the newest transitions of N environments, in memory or in memory-mapped files.

Axes: T steps, N environments, M minibatches, B samples (transitions), L window steps, R ring rows.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from lit_rl.checks import nearest
from lit_rl.n_step import n_step_return
from lit_rl.nested import keys_of, map_nested, named_leaves
from lit_rl.types import Nested

FIELDS = ("obs", "action", "reward", "terminated", "truncated", "next_obs", "valid")
"""What a transition consists of; ``obs`` and ``next_obs`` may be nested, ``next_obs`` is the true one."""


class ReplayRing:
    """Keeps the last ``capacity`` transitions and draws minibatches of them, uniformly, with replacement.

    A row of the ring is one step of all N environments, so that the next step of an environment is the same
    column of the next row, which n-step returns need. Storage is allocated at the first :meth:`add`, on the
    device and with the dtypes of what is added.

    Args:
        capacity: Number of transitions kept; rounded down to whole rows.
        num_envs: Number of environments N.
        path: Folder for memory-mapped storage; a folder of its own is made inside and removed by
            :meth:`close` or at the end of the process. None keeps everything in memory.

    Raises:
        ValueError: ``capacity`` is smaller than one row, or ``path`` cannot be written.
    """

    def __init__(self, capacity: int, num_envs: int, path: str | None = None) -> None:
        if capacity < num_envs or num_envs < 1:
            raise ValueError(
                f"capacity must hold at least one step of num_envs={num_envs} environments, got {capacity}."
            )
        self.num_envs = num_envs
        self.num_rows = capacity // num_envs
        self.folder = None if path is None else _make_folder(path)
        self._cleanup = self.folder and weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._storage: dict[str, Tensor] = {}  # path of a field -> (R, N, ...)
        self._expected: dict[
            str, tuple[tuple[int, ...], torch.dtype]
        ] = {}  # shape (N, ...) and dtype of each
        self._flat: dict[str, Any] = {}  # the same memory as nested fields (R*N, ...), for gathering
        self._cursor = 0  # the row written next
        self._filled = 0  # number of rows that hold data
        self._num_invalid = 0

    def __len__(self) -> int:
        """Count the transitions that can be sampled."""
        return self._filled * self.num_envs - self._num_invalid

    def add(self, transitions: Mapping[str, Any]) -> None:
        """Write T steps of all environments, the oldest rows first to go.

        Args:
            transitions: Every name of ``FIELDS``, nested tensors (T, N, ...). Rows where ``valid`` is False
                took no transition and are never sampled.

        Raises:
            ValueError: A field is missing or unknown, its shape or dtype is not that of the first call, or T
                exceeds the number of rows.
        """
        if not self._storage:
            self._allocate(transitions)
        values = dict(named_leaves(transitions))
        num_steps = len(values["valid"])
        self._check(values, num_steps)
        before_wrap = self.num_rows - self._cursor
        if num_steps <= before_wrap:
            self._write(values, self._cursor, num_steps)
        else:
            self._write(
                {name: value[:before_wrap] for name, value in values.items()}, self._cursor, before_wrap
            )
            rest = {name: value[before_wrap:] for name, value in values.items()}
            self._write(rest, 0, num_steps - before_wrap)
        self._cursor = (self._cursor + num_steps) % self.num_rows
        self._filled = min(self._filled + num_steps, self.num_rows)

    def end_episodes(self) -> None:
        """Mark the newest row as truncated: after it the environments start new episodes (after a resume)."""
        if self._filled:
            self._storage["truncated"][(self._cursor - 1) % self.num_rows] = True

    def sample(
        self,
        num_batches: int,
        batch_size: int,
        gamma: float,
        n_step: int = 1,
        generator: torch.Generator | None = None,
    ) -> dict[str, Any]:
        """Draw M minibatches of B transitions.

        Args:
            num_batches: Number of minibatches M.
            batch_size: Number of transitions B in each.
            gamma: Discount per step.
            n_step: Number of rewards summed per transition; fewer where the episode or the ring ends before.
            generator: Source of randomness, on the device of the ring; torch's own when None.

        Returns:
            ``obs``, ``action``, ``reward``, ``next_obs`` and ``discount`` of a ``ReplayBatch``, each (M, B,
            ...).

        Raises:
            ValueError: The ring holds no transition, or ``n_step`` is not between 1 and the number of rows.
        """
        if len(self) == 0:
            raise ValueError("The replay ring holds no transition yet; add some before sampling.")
        index = self._draw(num_batches * batch_size, generator)
        if n_step == 1:
            reward, last = self._flat["reward"].index_select(0, index), index
            discount = torch.where(self._flat["terminated"].index_select(0, index), 0.0, gamma)
        else:
            reward, discount, last = self._window(index, n_step, gamma)
        leading = (num_batches, batch_size)

        def gather(field: Tensor, where: Tensor) -> Tensor:
            return field.index_select(0, where).unflatten(0, leading)

        return {
            "obs": map_nested(lambda field: gather(field, index), self._flat["obs"]),
            "action": gather(self._flat["action"], index),
            "reward": reward.view(leading),
            "next_obs": map_nested(lambda field: gather(field, last), self._flat["next_obs"]),
            "discount": discount.view(leading),
        }

    def _draw(self, number: int, generator: torch.Generator | None) -> Tensor:
        """Draw indices of valid transitions in the flat fields, (B,)."""
        device = self._flat["valid"].device
        high = self._filled * self.num_envs
        index = torch.randint(high, (number,), generator=generator, device=device)
        if self._num_invalid:  # rare: draw those again, which keeps the rest uniform
            while len(again := (~self._flat["valid"].index_select(0, index)).nonzero().squeeze(1)):
                index[again] = torch.randint(high, (len(again),), generator=generator, device=device)
        return index

    def _window(self, index: Tensor, n_step: int, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
        """Compute sum of rewards, discount of what follows, and flat index of the last step, each (B,)."""
        if not 1 <= n_step <= self.num_rows:
            raise ValueError(
                f"n_step must be between 1 and the {self.num_rows} rows of the ring, got {n_step}."
            )
        row_B, env_B = index // self.num_envs, index % self.num_envs
        row_BL = (row_B.unsqueeze(1) + torch.arange(n_step, device=index.device)) % self.num_rows
        flat_BL = row_BL * self.num_envs + env_B.unsqueeze(1)

        def steps(field: str) -> Tensor:
            return self._flat[field].index_select(0, flat_BL.flatten()).view(flat_BL.shape)

        newest_BL = row_BL == (self._cursor - 1) % self.num_rows
        reward_B, discount_B, last_B = n_step_return(
            steps("reward"), steps("terminated"), steps("truncated") | newest_BL, gamma
        )
        return reward_B, discount_B, flat_BL.gather(1, last_B.unsqueeze(1)).squeeze(1)

    def _allocate(self, transitions: Mapping[str, Any]) -> None:
        for name in transitions:
            if name not in FIELDS:
                raise ValueError(f"Unknown field {name} in a transition.{nearest(name, FIELDS)}")
        if missing := [name for name in FIELDS if name not in transitions]:
            raise ValueError(
                f"A transition needs the fields {', '.join(FIELDS)}; missing: {', '.join(missing)}."
            )
        examples = dict(named_leaves(transitions))
        for name, example in examples.items():
            if example.ndim < 2 or example.shape[1] != self.num_envs:
                raise ValueError(
                    f"Field {name} must have shape (T, {self.num_envs}, ...) for num_envs={self.num_envs}; "
                    f"got {tuple(example.shape)}."
                )
        self._check_space(examples)
        self._storage = {name: self._empty(name, example) for name, example in examples.items()}
        self._expected = {
            name: (tuple(field.shape[1:]), field.dtype) for name, field in self._storage.items()
        }
        self._flat = _nest({name: field.flatten(0, 1) for name, field in self._storage.items()})

    def _empty(self, name: str, example: Tensor) -> Tensor:
        """Allocate zeros (R, N, ...) for a field that looks like ``example`` (T, N, ...)."""
        shape = (self.num_rows, *example.shape[1:])
        if self.folder is None:
            return torch.zeros(shape, dtype=example.dtype, device=example.device)
        file = str(self.folder / f"{quote(name, safe='')}.bin")  # no two fields may share a file
        size = torch.Size(shape).numel()
        return torch.from_file(file, shared=True, size=size, dtype=example.dtype).view(shape)

    def _check_space(self, examples: dict[str, Tensor]) -> None:
        if self.folder is None:
            return
        row_bytes = sum(example[0].numel() * example.element_size() for example in examples.values())
        needed, free = self.num_rows * row_bytes, shutil.disk_usage(self.folder).free
        if needed > free:  # a mapped file is sparse: without this the process would die when the disk is full
            raise ValueError(
                f"A replay ring of {self.num_rows * self.num_envs} transitions needs {needed / 1e9:.1f} GB, "
                f"{self.folder.parent} has {free / 1e9:.1f} GB; lower capacity or choose another path."
            )

    def _check(self, values: dict[str, Tensor], num_steps: int) -> None:
        if values.keys() != self._storage.keys():
            names = ", ".join(sorted(values.keys() ^ self._storage.keys()))
            raise ValueError(f"Transitions must have the fields of the first ones; missing or new: {names}.")
        if num_steps > self.num_rows:
            raise ValueError(
                f"A chunk of {num_steps} steps x {self.num_envs} environments does not fit into a ring of "
                f"{self.num_rows} rows; raise capacity to at least {num_steps * self.num_envs}."
            )
        for name, (shape, dtype) in self._expected.items():
            value = values[name]
            if value.shape != (num_steps, *shape) or value.dtype != dtype:
                raise ValueError(
                    f"Field {name} must be {dtype} of shape {(num_steps, *shape)}; "
                    f"got {value.dtype} of shape {tuple(value.shape)}."
                )

    def _write(self, values: dict[str, Tensor], row: int, number: int) -> None:
        """Copy ``number`` steps into the ring, from ``row`` on."""
        rows = slice(row, row + number)
        if self._num_invalid:
            self._num_invalid -= _count_false(self._storage["valid"][row : min(row + number, self._filled)])
        for name, field in self._storage.items():
            field[rows].copy_(values[name])
        self._num_invalid += _count_false(values["valid"])

    def get_state(self) -> dict[str, Any]:
        """Return copies of the filled rows, also of mapped files, and where the next row goes."""
        fields = {name: field[: self._filled].clone() for name, field in self._storage.items()}
        return {
            "fields": fields,
            "cursor": self._cursor,
            "num_envs": self.num_envs,
            "num_rows": self.num_rows,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue exactly from what :meth:`get_state` returned.

        A ring of another size keeps the newest transitions that fit. One of another number of environments
        deals them out over its columns, and n-step windows end where what follows is no longer below.
        """
        is_same = (state["num_rows"], state["num_envs"]) == (self.num_rows, self.num_envs)
        fields = state["fields"]
        if fields and not is_same:
            in_order = {name: field.roll(-state["cursor"], 0) for name, field in fields.items()}
            fields = _dealt_out(in_order, state["num_envs"], self.num_envs, self.num_rows)
        self._storage, self._flat = {}, {}
        self._cursor = self._filled = self._num_invalid = 0
        if fields:
            self.add(_nest(fields))
        if is_same:
            self._cursor = state["cursor"]

    def close(self, keep: bool = False) -> None:
        """Forget everything, and remove the files unless ``keep``; further calls do nothing."""
        self._storage, self._flat = {}, {}
        self._cursor = self._filled = self._num_invalid = 0
        if self._cleanup is not None:
            if keep:
                self._cleanup.detach()
            else:
                self._cleanup()


def _dealt_out(
    fields: dict[str, Tensor], num_envs: int, num_columns: int, num_rows: int
) -> dict[str, Tensor]:
    """Put the newest transitions of a ring into another number of columns.

    Args:
        fields: Transitions by the paths of their fields, (T, N, ...), the oldest first.
        num_envs: Environments N, one a column.
        num_columns: Columns of the result.
        num_rows: Rows of the result at most.

    Returns:
        Fields of shape (rows, num_columns, ...), all rows filled; ``{}`` where there is less than a row.
    """
    if num_envs == num_columns:
        return {name: field[-num_rows:] for name, field in fields.items()}
    kept = min(len(fields["valid"]), -(-num_rows * num_columns // num_envs))  # rows of the old ring
    rows = min(num_rows, kept * num_envs // num_columns)
    if rows == 0:
        return {}
    newest = {name: field[-kept:] for name, field in fields.items()}
    newest["truncated"][-1] = True  # below a column there comes another one
    dealt = {}
    for name, field in newest.items():
        in_turn = field.transpose(0, 1).flatten(0, 1)[-rows * num_columns :]
        dealt[name] = in_turn.unflatten(0, (num_columns, rows)).transpose(0, 1).clone()
    dealt["truncated"][-1] = True
    return dealt


def _count_false(x: Tensor) -> int:
    return x.numel() - int(x.count_nonzero())


def _make_folder(path: str) -> Path:
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="replay_", dir=path))
    except OSError as error:
        raise ValueError(f"The replay path {path} cannot be written: {error.strerror}.") from error


def _nest(flat: dict[str, Nested]) -> dict[str, Any]:
    """Make nested dicts from leaves by their paths, which undoes ``dict(named_leaves(...))``."""
    nested: dict[str, Any] = {}
    for path, leaf in flat.items():
        *folders, name = keys_of(path)
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = leaf
    return nested
