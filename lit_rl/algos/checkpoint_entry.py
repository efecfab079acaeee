"""The entry ``lit_rl`` of a checkpoint: what the learner was, where it was trained, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lit_rl.algos.names import public_name
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
