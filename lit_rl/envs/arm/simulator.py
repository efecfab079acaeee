"""Planar arms in MuJoCo, one simulator each: slower, but links and obstacles push each other.

Axes: N environments, U action dimensions, E chosen environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_rl.envs.arm.body import ARMATURE, DAMPING, DENSITY, Bodies
from lit_rl.envs.arm.dynamics import ANGLE, COS, MAX_SPEED, SIN, SPEED, SPEED_GAIN
from lit_rl.envs.arm.task import ArmTask

_HEIGHT_M = 0.1  # above the floor of nothing; all links lie in one plane


def build_model(
    bodies: Bodies,
    row: int,
    *,
    step_s: float = 0.01,
    obstacles: Sequence[Sequence[float]] = (),
    contacts: bool = False,
) -> Any:
    """Compile one arm into a ``mujoco.MjModel``; no file is written.

    Links collide with obstacles, and with links that are not their neighbours.

    Args:
        bodies: Arms.
        row: The one to build.
        step_s: Physics step.
        obstacles: ``[x, y, radius]`` of upright cylinders.
        contacts: Whether anything collides.
    """
    import mujoco

    spec: Any = mujoco.MjSpec()  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module
    mj: Any = mujoco
    spec.modelname = f"planar_arm_{int(bodies.num_joints[row])}"
    spec.option.timestep = step_s
    spec.option.integrator = mj.mjtIntegrator.mjINT_EULER
    spec.option.gravity = [0, 0, 0]
    if not contacts:
        spec.option.disableflags = int(mj.mjtDisableBit.mjDSBL_CONTACT)
    parent, place = spec.worldbody, [0, 0, _HEIGHT_M]
    num_joints = int(bodies.num_joints[row])
    for i in range(num_joints):
        length = float(bodies.length_m[row, i])
        parent = parent.add_body(name=f"link{i}", pos=place)
        joint = parent.add_joint(name=f"joint{i}", type=mj.mjtJoint.mjJNT_HINGE, axis=[0, 0, 1])
        try:
            joint.damping = DAMPING
        except TypeError:  # a vector since MuJoCo 4
            joint.damping = [DAMPING, 0, 0]
        joint.armature = ARMATURE
        parent.add_geom(
            name=f"link{i}",
            type=mj.mjtGeom.mjGEOM_CAPSULE,
            fromto=[0, 0, 0, length, 0, 0],
            size=[float(bodies.radius_m[row, i]), 0, 0],
            density=DENSITY,
            contype=1,
            conaffinity=2,
            condim=1,
        )
        motor = spec.add_actuator(name=f"motor{i}", target=f"joint{i}", trntype=mj.mjtTrn.mjTRN_JOINT)
        motor.gear = [float(bodies.gear[row, i]), 0, 0, 0, 0, 0]
        motor.ctrllimited, motor.ctrlrange = 1, [-1, 1]
        place = [length, 0, 0]
    parent.add_site(name="tip", pos=place)
    for j in range(2, num_joints):
        for i in range(j - 1):
            spec.add_pair(name=f"pair{i}_{j}", geomname1=f"link{i}", geomname2=f"link{j}", condim=1)
    for number, (x, y, radius) in enumerate(obstacles):
        spec.worldbody.add_geom(
            name=f"obstacle{number}",
            type=mj.mjtGeom.mjGEOM_CYLINDER,
            pos=[x, y, _HEIGHT_M],
            size=[radius, 0.05, 0],
            contype=2,
            conaffinity=1,
            condim=1,
        )
    return spec.compile()


class Simulators:
    """One ``MjData`` for each environment, and one ``MjModel`` for each body, compiled when it first plays.

    Args:
        task: The task.
        num_envs: Number N of environments.
    """

    def __init__(self, task: ArmTask, num_envs: int) -> None:
        import mujoco

        self._mujoco: Any = mujoco
        self._task = task
        self._models: dict[int, Any] = {}
        self._body = np.full(num_envs, -1)
        self._data: list[Any] = [None] * num_envs

    def forget(self) -> None:
        """Drop all models, because the bodies have changed."""
        self._models.clear()
        self._body[:] = -1

    def place(self, bodies: Bodies, body_N: np.ndarray, state: np.ndarray, rows: np.ndarray) -> None:
        """Put the simulators of the environments ``rows`` ``(E,)`` where ``state`` ``(N, 5, 6)`` says."""
        for e in rows.tolist():
            body = int(body_N[e])
            if body not in self._models:
                task = self._task
                self._models[body] = build_model(
                    bodies,
                    body,
                    step_s=task.step_s,
                    obstacles=task.obstacles,
                    contacts=task.contacts,
                )
            model = self._models[body]
            if self._body[e] != body:
                self._data[e], self._body[e] = self._mujoco.MjData(model), body
            else:
                self._mujoco.mj_resetData(model, self._data[e])
            self._data[e].qpos[:] = state[e, ANGLE, : model.nq]
            self._data[e].qvel[:] = state[e, SPEED, : model.nq]

    def step(self, bodies: Bodies, state: np.ndarray, action: np.ndarray) -> None:
        """Take the physics steps of ``action`` ``(N, U)``, and write where the arms are into ``state``."""
        action = np.clip(action, -1.0, 1.0)  # NaN stays NaN, and MuJoCo warns of it
        task = self._task
        for e, data in enumerate(self._data):
            model = self._models[int(self._body[e])]
            n = model.nq
            if task.control == "torque":
                data.ctrl[:] = action[e, :n]
                self._mujoco.mj_step(model, data, task.frame_skip)
            else:
                gear = bodies.gear[self._body[e], :n]
                for _ in range(task.frame_skip):
                    data.ctrl[:] = np.clip(SPEED_GAIN * (MAX_SPEED * action[e, :n] - data.qvel) / gear, -1, 1)
                    self._mujoco.mj_step(model, data)
            state[e, ANGLE, :n], state[e, SPEED, :n] = data.qpos, data.qvel
            state[e, COS, :n], state[e, SIN, :n] = np.cos(data.qpos), np.sin(data.qpos)

    def get_state(self) -> list[Any]:
        """Return what each simulator starts from, its warm start included, as tensors."""
        import torch

        full = self._mujoco.mjtState.mjSTATE_INTEGRATION
        saved = []
        for body, data in zip(self._body.tolist(), self._data, strict=True):
            model = self._models[body]
            values = np.empty(self._mujoco.mj_stateSize(model, full))
            self._mujoco.mj_getState(model, data, values, full)
            saved.append(torch.from_numpy(values))
        return saved

    def set_state(self, state: list[Any]) -> None:
        """Continue from :meth:`get_state`; the simulators have been placed already."""
        full = self._mujoco.mjtState.mjSTATE_INTEGRATION
        for body, data, values in zip(self._body.tolist(), self._data, state, strict=True):
            self._mujoco.mj_setState(self._models[body], data, values.numpy(), full)
