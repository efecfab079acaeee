"""Continuous actions with finite bounds, scaled to [-1, 1] for learners; joints that do not exist stay at 0.

The bounds are those of the environment, or the learner's own, such as limits of joints. Its own belong to the
policy: they are kept in checkpoints, and no environment changes them.

Axes: M minibatches, B samples, U action dimensions; ... stands for any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from lit_rl.types import JOINT_MASK, EnvSpec, Nested

Bounds: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Lower and upper bound of each entry of an action, flat."""


def own_bounds(learner: str, low: Sequence[float] | None, high: Sequence[float] | None) -> Bounds | None:
    """Check the bounds that a learner was given, and return them; None where it was given none.

    Raises:
        ValueError: Only one of the two is given, or an entry has no room between finite bounds.
    """
    if low is None and high is None:
        return None
    if low is None or high is None or len(low) != len(high):
        raise ValueError(
            f"{learner}: action_low = {low} and action_high = {high} must be given together, one number for "
            "each entry of an action"
        )
    for i, (lower, upper) in enumerate(zip(low, high, strict=True)):
        if not (math.isfinite(lower) and math.isfinite(upper) and lower < upper):
            raise ValueError(
                f"{learner}: action_low[{i}] = {lower} and action_high[{i}] = {upper}, expected finite "
                "numbers, the first one smaller"
            )
    return tuple(map(float, low)), tuple(map(float, high))


class ActionBox(nn.Module):
    """Scales actions from [-1, 1] to the bounds of the environment, and back.

    Args:
        spec: Observation and action of the environment.
        learner: Name of the learner, for messages.
        own: Bounds to use in place of the environment's; they are then part of the weights. The environment
            clips actions that its own bounds do not allow.

    Raises:
        ValueError: Actions are not continuous, there are several agents, or float32 cannot scale the bounds
            of an entry, which the message names; or ``own`` is for actions of another size.
    """

    middle: Tensor
    scale: Tensor

    def __init__(self, spec: EnvSpec, learner: str, own: Bounds | None = None) -> None:
        super().__init__()
        spec.check_continuous(learner, "use PPO for it")
        if spec.agents:
            raise ValueError(
                f"{learner} acts for one agent, {spec.name} has {len(spec.agents)}; use PPO for it"
            )
        if own is not None:
            if len(own[0]) != spec.action.size:
                raise ValueError(
                    f"{learner}: action_low and action_high have {len(own[0])} numbers, an action of "
                    f"{spec.name} has {spec.action.size}; give one for each entry"
                )
            spec = spec.within(*own)
        action = spec.action
        spec.check_bounds(learner)
        low, high = torch.tensor([action.low, action.high], dtype=torch.float64)  # their sum may overflow
        dtype = torch.get_default_dtype()
        self.register_buffer("middle", ((high + low) / 2).to(dtype), persistent=own is not None)
        self.register_buffer("scale", ((high - low) / 2).to(dtype), persistent=own is not None)
        self._own = own
        self._action = action
        self.has_joints = spec.has_joints

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], strict: bool,
        missing_keys: list[str], unexpected_keys: list[str], error_msgs: list[str],
    ) -> None:  # fmt: skip
        """Refuse weights that were trained with other bounds: a policy would act in another scale."""
        saved = [state_dict.get(f"{prefix}{name}") for name in ("middle", "scale")]
        middle, scale = saved
        if middle is not None and scale is not None:
            now = torch.stack([self.middle, self.scale]).double().cpu()
            trained = torch.stack([middle, scale]).double().cpu()
            if self._own is None or trained.shape != now.shape or not torch.allclose(trained, now):
                low, high = (middle - scale).tolist(), (middle + scale).tolist()
                error_msgs.append(
                    f"the checkpoint was trained with action_low = {low} and action_high = {high}, this "
                    f"learner has {'none' if self._own is None else f'{self._own[0]} and {self._own[1]}'}; "
                    "give those of the checkpoint"
                )
        elif self._own is not None and strict:
            error_msgs.append(
                "the checkpoint was trained with the bounds of its environment: leave action_low and "
                "action_high out"
            )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def exists(self, obs: Nested) -> Tensor | None:
        """Tell which entries of an action exist, 1 or 0 (..., U); None where all of them always do."""
        return (obs[JOINT_MASK] != 0).to(self.scale.dtype) if self.has_joints else None

    def existing(self, action_U: Tensor, obs: Nested) -> Tensor:
        """Put the middle of the box, 0, where an entry of an action in [-1, 1], (..., U), does not exist."""
        exists = self.exists(obs)
        return action_U if exists is None else action_U * exists

    def to_env(self, action_U: Tensor) -> Tensor:
        """Turn an action in [-1, 1], (..., U), into the units and the shape of the environment."""
        action = torch.addcmul(self.middle, action_U, self.scale)
        return self._action.shaped(action)

    def from_env(self, action: Tensor) -> Tensor:
        """Turn actions of the environment, (M, B, *shape), into actions in [-1, 1], (M, B, U)."""
        return (action.reshape(*action.shape[:2], -1) - self.middle) / self.scale
