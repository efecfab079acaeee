"""The quadruped Unitree GO2 as a MuJoCo model of primitive shapes, built from published figures.

Masses, inertias, joint ranges and torque limits are those that the manufacturer publishes for simulation.
Shapes are boxes, capsules and spheres, so that there are no mesh files, and a step is quick. Legs do not
collide with each other; everything collides with the floor.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import mujoco
import numpy as np

LEGS = ("FL", "FR", "RL", "RR")
"""Front left, front right, rear left, rear right: the order of all arrays over legs."""
PARTS = ("hip", "thigh", "calf")
JOINT_NAMES = tuple(f"{leg}_{part}_joint" for leg in LEGS for part in PARTS)
"""The order of all arrays over joints and actuators."""
NUM_JOINTS = len(JOINT_NAMES)

STANCE_RAD = np.array([0.0, 0.9, -1.8] * 4)
"""Joint angles of the pose in which episodes begin, and around which actions move."""
HIP_M = tuple((0.1934 * x, 0.0465 * y) for x, y in ((1, 1), (1, -1), (-1, 1), (-1, -1)))
"""Places of the legs' first joints in the frame of the trunk, ahead and to the left."""
THIGH_OFFSET_M, LEG_M = 0.0955, 0.213
"""How far the thigh's joint lies outside of the hip's, and the length of thigh and calf."""
STANCE_M = 0.30
"""Height of the trunk in that pose, a little above where it comes to rest."""
TORQUE_NM = np.array([23.7, 23.7, 45.43] * 4)
"""Largest torques."""
_HIP_RAD, _CALF_RAD = (-1.0472, 1.0472), (-2.7227, -0.83776)
_THIGH_RAD = {"F": (-1.5708, 3.4907), "R": (-0.5236, 4.5379)}
LOW_RAD, HIGH_RAD = (
    np.array([_range[end] for leg in LEGS for _range in (_HIP_RAD, _THIGH_RAD[leg[0]], _CALF_RAD)])
    for end in (0, 1)
)
"""Ranges of the joints."""
FOOT_RADIUS_M = 0.022
TRUNK = "trunk"
FRICTION = 0.8
Solver = Literal["newton", "cg", "pgs"]
"""Algorithms by which MuJoCo finds the forces of contacts; they agree where they may iterate long enough."""
_SOLVERS: dict[Solver, tuple[str, int]] = {"newton": ("Newton", 10), "cg": ("CG", 50), "pgs": ("PGS", 50)}

_LEG = """
<body name="{leg}_hip" pos="{x} {y} 0">
  <inertial pos="{hip_x} {hip_y} -0.0001" mass="0.678" diaginertia="0.00048 0.00088 0.0006"/>
  <joint name="{leg}_hip_joint" axis="1 0 0" range="{hip}" damping="0.2" armature="0.01" frictionloss="0.2"/>
  <geom type="capsule" size="0.046 0.02" pos="0 {hip_geom_y} 0" quat="1 1 0 0" class="body"/>
  <body name="{leg}_thigh" pos="0 {thigh_y} 0">
    <inertial pos="-0.00374 {thigh_com_y} -0.0327" mass="1.152" diaginertia="0.00584 0.00595 0.00088"/>
    <joint name="{leg}_thigh_joint" axis="0 1 0" range="{thigh}"
      damping="0.2" armature="0.02" frictionloss="0.2"/>
    <geom type="capsule" size="0.017" fromto="0 0 -0.02 0 0 -0.19" class="body"/>
    <body name="{leg}_calf" pos="0 0 -0.213">
      <inertial pos="0.0063 0 -0.1414" mass="0.241" diaginertia="0.00146 0.00149 0.00005"/>
      <joint name="{leg}_calf_joint" axis="0 1 0" range="{calf}"
        damping="0.2" armature="0.03" frictionloss="0.5"/>
      <geom type="capsule" size="0.013" fromto="0.005 0 -0.02 0.005 0 -0.18" class="body"/>
      <geom name="{leg}" type="sphere" size="{radius}" pos="-0.002 0 -0.213" class="foot"/>
      <site name="{leg}" type="sphere" size="0.04" pos="-0.002 0 -0.213" group="4"/>
    </body>
  </body>
</body>"""

_MODEL = """
<mujoco model="GO2">
  <compiler angle="radian"/>
  <option timestep="{timestep_s}" integrator="implicitfast" cone="pyramidal" solver="{solver}"
    iterations="{iterations}" ls_iterations="10"><flag eulerdamp="disable"/></option>
  <visual><headlight ambient="0.4 0.4 0.4" diffuse="0.4 0.4 0.4"/><quality shadowsize="2048"/></visual>
  <asset>
    <texture name="floor" type="2d" builtin="checker" rgb1="0.86 0.88 0.9" rgb2="0.78 0.81 0.84"
      width="256" height="256"/>
    <material name="floor" texture="floor" texrepeat="2 2" texuniform="true"/>
    <texture type="skybox" builtin="gradient" rgb1="1 1 1" rgb2="0.8 0.86 0.92" width="64" height="64"/>
  </asset>
  <default>
    <default class="body"><geom contype="2" conaffinity="1" rgba="0.25 0.28 0.33 1"/></default>
    <default class="foot">
      <geom contype="2" conaffinity="1" condim="3" friction="{friction} 0.02 0.01" solref="0.01 1"
        rgba="0.1 0.45 0.75 1"/>
    </default>
  </default>
  <worldbody>
    <light pos="0 0 4" dir="0 0 -1" directional="true"/>
    <geom name="floor" type="plane" size="0 0 0.05" contype="1" conaffinity="2" material="floor"
      friction="{friction} 0.02 0.01"/>
    <body name="{trunk}" pos="0 0 0.32">
      <freejoint/>
      <inertial pos="0.0211 0 -0.0054" mass="6.921" diaginertia="0.0245 0.0981 0.107"/>
      <geom name="trunk" type="box" size="0.19 0.047 0.057" class="body"/>
      <geom name="head" type="sphere" size="0.047" pos="0.29 0 -0.04" class="body" rgba="0.75 0.77 0.8 1"/>
      <site name="imu" pos="-0.0256 0 0.0423" group="4"/>
      <camera name="follow" mode="trackcom" pos="0.3 -1.3 0.45" xyaxes="1 0.2 0 -0.05 0.25 1"/>
      {legs}
    </body>
  </worldbody>
  <actuator>{actuators}</actuator>
  <sensor>{sensors}</sensor>
</mujoco>"""


def make_model(timestep_s: float, stiffness: float, damping: float, solver: Solver = "newton") -> Any:
    """Compile the model, an ``MjModel``.

    Args:
        timestep_s: Seconds of a physics step.
        stiffness: Gain kp of the position controller of each joint, Nm/rad.
        damping: Gain kd of it, Nm s/rad.
        solver: Algorithm that finds the forces of contacts.
    """
    legs = "".join(_leg(leg, x, y) for leg, (x, y) in zip(LEGS, HIP_M, strict=True))
    actuators = "".join(
        f'<position name="{joint}" joint="{joint}" kp="{stiffness}" kv="{damping}" '
        f'forcerange="{-torque} {torque}"/>'
        for joint, torque in zip(JOINT_NAMES, TORQUE_NM, strict=True)
    )
    sensors = "".join(f'<touch name="{leg}" site="{leg}"/>' for leg in LEGS)
    xml = _MODEL.format(
        timestep_s=timestep_s, friction=FRICTION, trunk=TRUNK, legs=legs, actuators=actuators,
        sensors=sensors, solver=_SOLVERS[solver][0], iterations=_SOLVERS[solver][1],
    )  # fmt: skip
    return mujoco.MjModel.from_xml_string(xml)  # pyright: ignore[reportAttributeAccessIssue]


def _leg(leg: str, x: float, y: float) -> str:
    """Describe one leg, whose first joint is at (x, y) in the frame of the trunk."""
    front, left = math.copysign(1, x), math.copysign(1, y)

    def pair(low_high: tuple[float, float]) -> str:
        return f"{low_high[0]} {low_high[1]}"

    return _LEG.format(
        leg=leg,
        x=x,
        y=y,
        hip_x=-0.0054 * front,
        hip_y=0.00194 * left,
        hip_geom_y=0.05 * left,
        thigh_y=THIGH_OFFSET_M * left,
        thigh_com_y=-0.0223 * left,
        hip=pair(_HIP_RAD),
        thigh=pair(_THIGH_RAD[leg[0]]),
        calf=pair(_CALF_RAD),
        radius=FOOT_RADIUS_M,
    )
