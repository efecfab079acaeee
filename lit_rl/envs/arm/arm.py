"""``PlanarArm-v0`` by Gymnasium's interfaces: one arm, and a batch of them."""

from __future__ import annotations

from lit_rl.envs.arm.batch import REPORTED, PlanarArms
from lit_rl.envs.native import NativeEnv, NativeVectorEnv


class PlanarArm(NativeEnv):
    """One arm of :class:`PlanarArms`. Its arguments are ``render_mode`` and the fields of ``ArmTask``."""

    native, reported = PlanarArms, REPORTED


class PlanarArmVector(NativeVectorEnv):
    """A batch of arms for ``gymnasium.make_vec``; its arguments are the fields of ``ArmTask``."""

    native, reported = PlanarArms, REPORTED
