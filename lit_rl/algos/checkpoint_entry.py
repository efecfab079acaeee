"""The entry ``lit_rl`` of a checkpoint: what the learner was, where it was trained, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lit_rl.algos.names import public_name
from lit_rl.arguments import plain
from lit_rl.checks import is_plain
from lit_rl.types import EnvSpec

KEY = "lit_rl"


def entry(learner: type, spec: EnvSpec | None, ranks: list[Any], optimizers: Any) -> dict[str, Any]:
    """Return the entry, in tensors and plain types.

    Args:
        learner: Class of the learner.
        spec: Observation and action of the environment.
        ranks: State of each rank that the others do not share.
        optimizers: Settings that the learner gave to its optimizers.
    """
    settings = {
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    return {
        "class_path": public_name(learner),
        "spec": spec.to_dict() if spec else None,
        "ranks": ranks,
        "settings": settings,
        "optimizers": optimizers,
    }


def read_entry(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry of a checkpoint.

    Raises:
        ValueError: The checkpoint was not written by lit_rl.
    """
    if KEY not in checkpoint:
        raise ValueError("checkpoint expected to be written by lit_rl, but it has no entry 'lit_rl'")
    return checkpoint[KEY]


def make_plain(checkpoint: dict[str, Any], hyper_parameters: str) -> None:
    """Let a checkpoint hold what loads as plain data, beside its weights.

    Numbers and arrays of numpy become Python's own, also in settings of optimizers, where a learner was given
    such a learning rate. Hyper-parameters that are other objects are left out.

    Args:
        checkpoint: The content that Lightning is about to write.
        hyper_parameters: Key of the hyper-parameters in it.
    """
    for part in checkpoint.keys() - {"state_dict"}:
        checkpoint[part] = plain(checkpoint[part])
    given = checkpoint.get(hyper_parameters, {})
    checkpoint[hyper_parameters] = {name: value for name, value in given.items() if is_plain(value)}
