"""Continuous actions with finite bounds, scaled to [-1, 1] for learners; joints that do not exist stay at 0.

Axes: M minibatches, B samples, U action dimensions; ... stands for any leading axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_rl.types import JOINT_MASK, EnvSpec, Nested


class ActionBox(nn.Module):
    """Scales actions from [-1, 1] to the bounds of the environment, and back.

    Args:
        spec: Observation and action of the environment.
        learner: Name of the learner, for messages.

    Raises:
        ValueError: Actions are not continuous, there are several agents, or float32 cannot scale the bounds
            of an entry, which the message names.
    """

    middle: Tensor
    scale: Tensor

    def __init__(self, spec: EnvSpec, learner: str) -> None:
        super().__init__()
        action = spec.action
        spec.check_continuous(learner, "use PPO for it")
        if spec.agents:
            raise ValueError(
                f"{learner} acts for one agent, {spec.name} has {len(spec.agents)}; use PPO for it"
            )
        spec.check_bounds(learner)
        low, high = torch.tensor([action.low, action.high], dtype=torch.float64)  # their sum may overflow
        dtype = torch.get_default_dtype()
        self.register_buffer("middle", ((high + low) / 2).to(dtype), persistent=False)
        self.register_buffer("scale", ((high - low) / 2).to(dtype), persistent=False)
        self._action = action
        self._has_joints = spec.has_joints

    def exists(self, obs: Nested) -> Tensor | None:
        """Tell which entries of an action exist, 1 or 0 (..., U); None where all of them always do."""
        return (obs[JOINT_MASK] != 0).to(self.scale.dtype) if self._has_joints else None

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
