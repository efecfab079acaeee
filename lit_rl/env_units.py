"""Between the numbers of an environment's own spaces and those that policies see and choose.

Policies count choices from 0, do not clip, and see real numbers as float32. The adapters of ``lit_rl.envs``
convert arrays while environments step; this file does the same to tensors, for policies that leave the
library, and for trajectories that others read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lit_rl.types import ActionSpec, LeafSpec, Nested


class ActionToEnv(nn.Module):
    """Turns actions of a policy into those that the environment receives.

    Boxes are clipped to their bounds, choices counted from the ``start`` of the space; the dtype is that of
    the space.

    Args:
        action: The actions of the environment.
    """

    low: Tensor
    high: Tensor
    start: Tensor

    def __init__(self, action: ActionSpec) -> None:
        super().__init__()
        self._is_box = action.kind == "box"
        self._dtype: torch.dtype | None = getattr(torch, action.dtype) if action.dtype else None
        if self._is_box:
            # as numpy does it: bounds are compared in the finer one of both dtypes
            exact = torch.promote_types(self._dtype or torch.float32, torch.float32)
            for name, bound in (("low", action.low), ("high", action.high)):
                exactly = torch.tensor(bound, dtype=torch.float64).reshape(action.shape).to(exact)
                self.register_buffer(name, exactly, persistent=False)
        else:
            start = torch.tensor(action.start or [0] * len(action.categories)).reshape(action.shape)
            self.register_buffer("start", start, persistent=False)

    def forward(self, action: Tensor) -> Tensor:
        """Convert actions ``(..., *shape)``, with any leading axes."""
        if self._is_box:
            action = action.to(torch.promote_types(action.dtype, self.low.dtype))
            converted = action.clamp(self.low, self.high)
        else:
            converted = action + self.start
        return converted if self._dtype is None else converted.to(self._dtype)


def input_dtype(leaf: LeafSpec) -> torch.dtype:
    """Return the dtype in which an environment gives a leaf: float32 for real numbers, else its own."""
    dtype: torch.dtype = getattr(torch, leaf.space_dtype or leaf.dtype)
    return torch.float32 if dtype.is_floating_point else dtype


def observation_from_env(spec: LeafSpec | dict[str, Any], obs: Nested) -> Nested:
    """Turn an observation of the environment, leaves ``(..., *shape)``, into what its policy was trained on.

    Args:
        spec: The observations of the environment.
        obs: Tensors of :func:`input_dtype`. Keys that ``spec`` does not name stay as they are.
    """
    if isinstance(spec, dict):
        known = {key: observation_from_env(leaf, obs[key]) for key, leaf in spec.items()}
        return {**obs, **known}
    seen = obs.to(getattr(torch, spec.dtype)) if not obs.is_floating_point() else obs
    return seen - torch.tensor(spec.start).reshape(spec.shape) if spec.start else seen


def observation_to_env(spec: LeafSpec | dict[str, Any], obs: Nested) -> Nested:
    """Turn what a policy was trained on back into what its environment returns; the inverse of the above.

    Args:
        spec: The observations of the environment.
        obs: Tensors ``(..., *shape)`` as a ``VectorEnv`` gives them. Keys that ``spec`` does not name stay.
    """
    if isinstance(spec, dict):
        known = {key: observation_to_env(leaf, obs[key]) for key, leaf in spec.items()}
        return {**obs, **known}
    counted = obs + torch.tensor(spec.start).reshape(spec.shape) if spec.start else obs
    return counted.to(input_dtype(spec))
