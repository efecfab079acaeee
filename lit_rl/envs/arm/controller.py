"""The Jacobian-transpose controller, a policy without learning to compare learned ones with.

Axes: N environments, U action dimensions.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lit_rl.envs.arm.body import GEAR_NM, LENGTH_M
from lit_rl.envs.arm.dynamics import COS, GEAR, LENGTH, SIN, SPEED
from lit_rl.envs.arm.observations import GLOBAL_TOKEN, JOINT_MASK, JOINT_TOKENS
from lit_rl.envs.compiled import compiled
from lit_rl.envs.sources import digest_of_sources
from lit_rl.types import Decision, Nested

if TYPE_CHECKING:
    from lit_rl.envs.arm.batch import PlanarArms

KP, KD = 20.0, 0.2
"""Force on the tip per distance from the goal (N/m), and torque against the joint speed (Nm s/rad)."""


class JacobianTranspose:
    """Pulls the tip to the goal as a spring would, and brakes every joint.

    The torque of joint i is ``kp * (J_i . (goal - tip)) - kd * speed_i``, with J_i the column of the
    Jacobian: the lever from joint i to the tip, turned by 90 degrees. It reads the layout ``tokens`` with
    ``control="torque"``.

    Args:
        kp: Force per distance, N/m.
        kd: Torque per joint speed, Nm s/rad.
    """

    def __init__(self, kp: float = KP, kd: float = KD) -> None:
        self._kp, self._kd = kp, kd

    def initial_carry(self, num_envs: int) -> Nested:
        """Return the empty carry: nothing is remembered."""
        return {}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Return torques ``(N, U)``; ``greedy`` changes nothing.

        Raises:
            ValueError: The observation is not that of the layout ``tokens``.
        """
        if not isinstance(obs, dict) or JOINT_TOKENS not in obs:
            raise ValueError("JacobianTranspose needs PlanarArms with layout='tokens'")
        joints, mask = obs[JOINT_TOKENS], obs[JOINT_MASK]
        reach_m = (joints[..., 9] * mask).sum(-1) * LENGTH_M
        length_m = (reach_m / obs[GLOBAL_TOKEN][:, 7])[:, None]  # R, by which places are divided
        lever, pull = joints[..., 5:7] * length_m[..., None], obs[GLOBAL_TOKEN][:, None, 4:6]
        along = lever[..., 0] * pull[..., 1] - lever[..., 1] * pull[..., 0]
        torque = self._kp * along * length_m - self._kd * joints[..., 2] / 0.1
        gear = joints[..., 11] * GEAR_NM
        action = (torque / torch.where(mask > 0, gear, 1.0)).clip(-1.0, 1.0)
        return Decision(action * mask, carry, {})


def jacobian_transpose(arms: PlanarArms, kp: float = KP, kd: float = KD) -> np.ndarray:
    """Return the torques ``(N, U)`` of :class:`JacobianTranspose` from the arms themselves, in compiled code.

    It is for evaluations of many bodies, and works with every layout.
    """
    action = np.zeros((arms.num_envs, arms.width), np.float32)
    num_joints, _, table, _ = arms.tables
    _write_torques(action, arms.body, num_joints, arms.state, table, arms.goal, kp, kd)
    return action


def _make_write_torques(stamp: str) -> Any:
    """Make the controller of all arms, which names ``stamp``, the digest of its sources."""

    @compiled
    def _write_torques(action, body, num_joints, state, table, goal, kp, kd):
        _ = stamp
        levers = np.empty((2, 7))
        for e in range(len(body)):
            b = body[e]
            n = num_joints[b]
            x = y = phi_sin = 0.0
            phi_cos = 1.0
            for i in range(n):
                levers[0, i], levers[1, i] = x, y
                cos, sin = state[e, COS, i], state[e, SIN, i]
                phi_cos, phi_sin = phi_cos * cos - phi_sin * sin, phi_sin * cos + phi_cos * sin
                x += table[b, i, LENGTH] * phi_cos
                y += table[b, i, LENGTH] * phi_sin
            ex, ey = goal[e, 0] - x, goal[e, 1] - y
            for i in range(n):
                along = (x - levers[0, i]) * ey - (y - levers[1, i]) * ex
                share = (kp * along - kd * state[e, SPEED, i]) / table[b, i, GEAR]
                action[e, i] = min(max(share, -1.0), 1.0) if math.isfinite(share) else 0.0

    return _write_torques


_write_torques = _make_write_torques(digest_of_sources(__file__))
