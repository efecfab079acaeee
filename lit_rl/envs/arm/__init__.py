"""The planar arm: three to six joints whose number, lengths, gears and radii may change from arm to arm.

Importing it registers ``PlanarArm-v0`` with Gymnasium. Its classes are loaded on first use, because compiled
code takes a second to load.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import gymnasium

if TYPE_CHECKING:
    from lit_rl.envs.arm.arm import PlanarArm, PlanarArmVector
    from lit_rl.envs.arm.batch import PlanarArms
    from lit_rl.envs.arm.body import ArmSpace, Bodies
    from lit_rl.envs.arm.controller import JacobianTranspose

__all__ = ["ArmSpace", "Bodies", "JacobianTranspose", "PlanarArm", "PlanarArmVector", "PlanarArms"]

_HOME = {
    "ArmSpace": "body",
    "Bodies": "body",
    "JacobianTranspose": "controller",
    "PlanarArm": "arm",
    "PlanarArmVector": "arm",
    "PlanarArms": "batch",
}

if "PlanarArm-v0" not in gymnasium.registry:
    gymnasium.register(
        "PlanarArm-v0",
        entry_point="lit_rl.envs.arm.arm:PlanarArm",
        vector_entry_point="lit_rl.envs.arm.arm:PlanarArmVector",
    )


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
