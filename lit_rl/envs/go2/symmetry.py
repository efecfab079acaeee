"""The left-right symmetry of the quadruped: what a robot sees and does, seen in a mirror."""

from __future__ import annotations

from typing import Any

import numpy as np

from lit_rl.envs.go2.model import LEGS, PARTS
from lit_rl.types import CRITIC, OBSERVATION, Mirror

_OTHER_SIDE = {"FL": "FR", "FR": "FL", "RL": "RR", "RR": "RL"}
_PART_SIGN = {"hip": -1.0, "thigh": 1.0, "calf": 1.0}  # only hips move sideways

Table = tuple[np.ndarray, np.ndarray]
"""Two arrays: the place from which each number of the mirror image comes, and its sign, 1 or -1."""


def mirror_of(full: bool, history: int, critic: bool) -> dict[str, Any]:
    """Return the ``mirror`` of the quadruped's ``EnvSpec``.

    Args:
        full: Whether observations hold the velocity of the trunk.
        history: Number of observations that are seen together.
        critic: Whether there is a part for critics.
    """
    seen = _plain(mirror_observation(full=full, history=history))
    observation = {OBSERVATION: seen, CRITIC: _plain(mirror_critic())} if critic else seen
    return {"observation": observation, "action": _plain(mirror_joints())}


def _plain(table: Table) -> Mirror:
    source, sign = table
    return Mirror(source.tolist(), sign.tolist())


def mirror_joints() -> Table:
    """Return the mirror of numbers per joint, such as actions (12,): legs change sides, hips their sign."""
    source = [len(PARTS) * LEGS.index(_OTHER_SIDE[leg]) + part for leg in LEGS for part in range(len(PARTS))]
    sign = [_PART_SIGN[part] for _ in LEGS for part in PARTS]
    return np.array(source), np.array(sign)


def mirror_observation(*, full: bool, history: int = 1) -> Table:
    """Return the mirror of an observation with 45 or (``full``) 48 numbers, times ``history``.

    Velocities to the left and turning rates to the left change their sign, as rolling does.
    """
    velocity = [1.0, -1.0, 1.0] if full else []
    vectors = [*velocity, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0, -1.0, -1.0]  # rates, gravity, command
    return _repeated(_with_joints(np.array(vectors), 3), history)


def mirror_critic() -> Table:
    """Return the mirror of what critics see, (60,)."""
    source, sign = mirror_observation(full=True)
    joints, joint_sign = mirror_joints()
    return np.concatenate([source, len(source) + joints]), np.concatenate([sign, joint_sign])


def _with_joints(sign: np.ndarray, blocks: int) -> Table:
    """Append blocks of numbers per joint to numbers that stay in place."""
    joints, joint_sign = mirror_joints()
    sources = [np.arange(len(sign)), *(len(sign) + len(joints) * k + joints for k in range(blocks))]
    return np.concatenate(sources), np.concatenate([sign, *[joint_sign] * blocks])


def _repeated(mirror: Table, times: int) -> Table:
    source, sign = mirror
    return np.concatenate([len(source) * k + source for k in range(times)]), np.tile(sign, times)
