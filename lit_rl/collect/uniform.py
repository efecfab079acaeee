"""A policy that acts uniformly at random: the warm-up of off-policy learning.

Axes: N environments, A agents.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lit_rl.nested import leaves
from lit_rl.types import JOINT_MASK, ActionSpec, Decision, EnvSpec, Nested


class UniformPolicy:
    """Draws every action uniformly from the action space, from torch's global generator.

    Joints that do not exist get the middle of the box.

    Raises:
        ValueError: A box action has an infinite bound, so no uniform distribution exists, or one that is too
            large for float32.
    """

    def __init__(self, spec: EnvSpec) -> None:
        action = spec.action
        spec.check_bounds("random warm-up", apart=False)
        self._action: ActionSpec = action
        self._agents = [len(spec.agents)] if spec.agents else []
        self._has_joints = spec.has_joints
        self._low, self._high = torch.tensor(action.low), torch.tensor(action.high)

    def initial_carry(self, num_envs: int) -> Nested:
        """Return the empty carry: this policy has no memory."""
        return {}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Draw uniform actions ``(N, ...)`` (``(N, A, ...)`` with agents); ``greedy`` is ignored."""
        lead = (next(leaves(obs)).shape[0], *self._agents)
        spec = self._action
        if spec.kind == "box":
            flat = self._low + (self._high - self._low) * torch.rand(*lead, spec.size)
            if self._has_joints:
                flat = flat.where(obs[JOINT_MASK].to(flat.device) != 0, (self._low + self._high) / 2)
            action = flat.view(*lead, *spec.shape)
        elif spec.kind == "discrete":
            action = torch.randint(spec.categories[0], lead)
        else:
            flat = torch.stack([torch.randint(n, lead) for n in spec.categories], -1)
            action = flat.view(*lead, *spec.shape)
        return Decision(action, carry, {})
