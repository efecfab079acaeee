"""Transitions in a file, which learners see beside their own (Ball 2023, arXiv:2302.02948).

The file is safetensors: arrays ``(T, N, ...)`` by the paths of the fields of a replay ring, with the metadata
``{"format": "lit_rl demonstrations 1"}``. Nothing in it is executed. ``lit-rl predict`` writes one.

Axes: T steps, N environments, M minibatches, B samples (transitions).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_rl.buffers import FIELDS, ReplayRing
from lit_rl.files import replacing
from lit_rl.nested import cast_floats, keys_of, map_nested, named_leaves
from lit_rl.types import EnvSpec, LeafSpec

FORMAT = "lit_rl demonstrations 1"
SHARE = 0.5
"""Share of a minibatch that RLPD takes from demonstrations."""


def write_demonstrations(path: Path, transitions: dict[str, Any]) -> int:
    """Write transitions, those of a replay ring, as a whole file or not at all.

    Args:
        path: The file, which is replaced.
        transitions: Every name of ``FIELDS``, nested tensors (T, N, ...).

    Returns:
        How many transitions were written.

    Raises:
        OSError: The file cannot be written.
    """
    from safetensors.torch import save

    exact = cast_floats(transitions, torch.float32)  # what policies receive
    arrays = {name: leaf.detach().cpu().contiguous().clone() for name, leaf in named_leaves(exact)}
    content = save(arrays, metadata={"format": FORMAT})
    with replacing(path) as beside, beside.open("xb") as file:
        file.write(content)
    return int(arrays["valid"].count_nonzero())


def read_demonstrations(path: str, spec: EnvSpec) -> ReplayRing:
    """Read the transitions of a file into a ring of their size.

    Args:
        path: The file.
        spec: The environment whose transitions it must hold.

    Raises:
        ValueError: There is no such file, it cannot be read, or holds no transitions of this environment; one
            line says what was expected, and what came.
    """
    arrays = _arrays(path)
    expected = dict(_expected(spec))
    if missing := sorted(expected.keys() - arrays.keys()):
        raise _misfit(path, f"lacks {', '.join(missing[:4])}, which transitions of {spec.name} have")
    if unknown := sorted(arrays.keys() - expected.keys()):
        raise _misfit(path, f"holds {', '.join(unknown[:4])}, which transitions of {spec.name} do not have")
    leading = tuple(arrays["valid"].shape)
    if len(leading) != 2 or 0 in leading or not arrays["valid"].any():
        raise _misfit(path, f"holds no transition: its arrays begin with {leading}, expected steps, copies")
    for name, (shape, dtype) in expected.items():
        array = arrays[name]
        if tuple(array.shape) != (*leading, *shape) or array.dtype != dtype:
            raise _misfit(
                path,
                f"has {name} of shape {tuple(array.shape)} and {array.dtype}, expected {(*leading, *shape)} "
                f"and {dtype} for {spec.name}",
            )
        if array.is_floating_point() and not array[arrays["valid"]].isfinite().all():
            raise _misfit(path, f"holds numbers in {name} that are not finite; leave those transitions out")
    _check_bounds(path, arrays["action"][arrays["valid"]], spec)
    ring = ReplayRing(leading[0] * leading[1], leading[1])
    ring.add(_nested(arrays))
    return ring


def mix(own: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """Join minibatches ``(M, B, ...)`` of two sources along B, field by field."""
    return map_nested(lambda *leaves: torch.cat(leaves, 1), own, shown)


def _arrays(path: str) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    if not Path(path).exists():
        raise _misfit(path, "does not exist; `lit-rl predict` writes one")
    if not Path(path).is_file():
        raise _misfit(path, "is no regular file")
    try:
        with safe_open(path, framework="pt") as file:
            found = (file.metadata() or {}).get("format")
            if found != FORMAT:
                raise _misfit(path, f"has the format {str(found)[:40]!r}, expected {FORMAT!r}")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no dict
    except (SafetensorError, OSError) as error:
        raise _misfit(
            path, f"cannot be read as safetensors ({' '.join(str(error).split())[:100]})"
        ) from error


def _expected(spec: EnvSpec) -> Iterator[tuple[str, tuple[tuple[int, ...], torch.dtype]]]:
    """Yield name, shape of one transition, and dtype of each array."""
    for name in ("obs", "next_obs"):
        for path, leaf in named_leaves({name: spec.observation}):
            yield path, (tuple(leaf.shape), _dtype(leaf))
    yield "action", (tuple(spec.action.shape), torch.float32)
    yield "reward", ((), torch.float32)
    for name in ("terminated", "truncated", "valid"):
        yield name, ((), torch.bool)


def _dtype(leaf: LeafSpec) -> torch.dtype:
    """Return the dtype in which policies receive what an environment delivers."""
    dtype = getattr(torch, leaf.dtype)
    return torch.float32 if dtype.is_floating_point else dtype


def _check_bounds(path: str, action: Tensor, spec: EnvSpec) -> None:
    low, high = (torch.tensor(bound).view(spec.action.shape) for bound in (spec.action.low, spec.action.high))
    slack = 1e-5 * (1 + (high - low).abs().nan_to_num(posinf=0.0))
    if ((action < low - slack) | (action > high + slack)).any():
        raise _misfit(
            path,
            f"holds actions from {action.min():g} to {action.max():g}, outside the bounds of {spec.name}",
        )


def _nested(arrays: dict[str, Tensor]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for path, array in arrays.items():
        *folders, name = keys_of(path)
        place = nested
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = array
    return {name: nested[name] for name in FIELDS}


def _misfit(path: str, what: str) -> ValueError:
    return ValueError(f"ReplayDataModule: demonstrations = {path} {what}")
