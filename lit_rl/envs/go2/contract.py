"""The contract says what a robot needs to run a policy of ``GO2-v0``; trials are worlds to try it in."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from lit_rl.envs.go2.model import (
    HIGH_RAD,
    JOINT_NAMES,
    LEGS,
    LOW_RAD,
    NUM_JOINTS,
    PARTS,
    STANCE_RAD,
    TORQUE_NM,
)
from lit_rl.envs.go2.observations import (
    ANGLE_NOISE,
    GRAVITY_NOISE,
    SPEED_NOISE,
    SPEED_SCALE,
    TURN_NOISE,
    TURN_SCALE,
    VELOCITY_SCALE,
)
from lit_rl.envs.go2.task import Go2Task

SDK_LEGS = ("FR", "FL", "RR", "RL")
"""The manufacturer's SDK numbers the legs in this order, and the parts of a leg in that of ``PARTS``."""
TRIAL_S = 10.0
"""Length of an episode in which a policy is tried."""
MORE_LATENCY_MS = 20.0
_LONGEST_LATENCY_MS = 40.0
_FINE_S = 0.002


def contract_of(task: Go2Task) -> dict[str, Any]:
    """Describe joints, controller, timing and observation of a task in plain types.

    Returns:
        Keys end in their units. The target angle of a joint is ``default_rad + action_scale_rad * action``,
        with the action clipped and, where there is ``action_smoothing``, smoothed before.
    """
    sdk_order = [JOINT_NAMES.index(f"{leg}_{part}_joint") for leg in SDK_LEGS for part in PARTS]
    return {
        "robot": "Unitree GO2",
        "joint_names": list(JOINT_NAMES),
        "sdk_order": sdk_order,
        "sdk_order_means": "motor k of the SDK moves joint_names[sdk_order[k]]",
        "default_rad": STANCE_RAD.tolist(),
        "lowest_rad": LOW_RAD.tolist(),
        "highest_rad": HIGH_RAD.tolist(),
        "torque_limit_Nm": TORQUE_NM.tolist(),
        "kp_Nm_per_rad": task.stiffness,
        "kd_Nm_s_per_rad": task.damping,
        "action_scale_rad": [float(scale) for scale in task.action_scale_rad] * len(LEGS),
        "action_clip": [-1.0, 1.0],
        "action_smoothing": task.action_smoothing,
        "control_period_s": task.control_s,
        "trained_latency_ms": [float(limit) for limit in task.latency_ms],
        "actuator": task.actuator,
        "observation": _terms(task),
        "history": {
            "frames": task.history,
            "order": "oldest first; each frame holds all terms in their order",
            "at_reset": "all frames are the first one",
        },
        "commands": _commands(task),
    }  # fmt: skip


def trials_of(task: Go2Task) -> dict[str, Any]:
    """Name worlds that differ from training, and what a policy must reach in each.

    All have another solver and a finer timestep. They combine little and much friction, motors that give less
    torque the faster they turn, and 20 ms more latency, at most 40 ms in all. Nobody pushes. Robots are drawn
    at random, whether or not they were in training: without that no friction would be set.
    """
    calm = {
        "solver": "cg" if task.solver == "newton" else "newton",
        "timestep_s": task.control_s / math.ceil(task.control_s / _FINE_S - 1e-9),
        "randomize": True, "push_mps": 0.0, "staggered": False,
        "max_traj_length": round(TRIAL_S / task.control_s),
    }  # fmt: skip
    trained = [float(limit) for limit in task.latency_ms]
    later = [min(limit + MORE_LATENCY_MS, _LONGEST_LATENCY_MS) for limit in trained]
    settings = {}
    for friction, is_curve, latency in product((1.0, 0.4), (False, True), (trained, later)):
        late = "" if latency is trained else f", latency {latency[0]:g} to {latency[1]:g} ms"
        settings[f"friction {friction:g}" + ", torque-speed curve" * is_curve + late] = {
            **calm, "friction": [friction, friction], "latency_ms": latency,
            "actuator": "pd_torque_speed" if is_curve else "pd",
        }  # fmt: skip
    limits = {
        "has_fallen": {"of": "last step", "at_most": 0.0},
        "velocity_error": {"of": "all steps", "at_most": 0.25},
    }
    return {"settings": settings, "limits": limits}


def _terms(task: Go2Task) -> list[dict[str, Any]]:
    """List what an observation holds; scales and noise are those of ``observations.py``."""
    velocity = [_term("velocity of the trunk", 3, "trunk", "m/s", VELOCITY_SCALE, 0.0)]
    usual = [
        _term("turning rates", 3, "trunk", "rad/s", TURN_SCALE, TURN_NOISE),
        _term("direction of gravity", 3, "trunk", "1", 1.0, GRAVITY_NOISE),
        _term("commanded velocity ahead and to the left", 2, "trunk", "m/s", VELOCITY_SCALE, 0.0),
        _term("commanded turning rate", 1, "trunk", "rad/s", TURN_SCALE, 0.0),
        _term("joint angles minus default_rad", NUM_JOINTS, "joint_names", "rad", 1.0, ANGLE_NOISE),
        _term("joint speeds", NUM_JOINTS, "joint_names", "rad/s", SPEED_SCALE, SPEED_NOISE),
        _term("last action, clipped", NUM_JOINTS, "joint_names", "1", 1.0, 0.0),
    ]
    return [*(velocity if task.observation == "full" else []), *usual]


def _term(name: str, size: int, frame: str, unit: str, scale: float, noise: float) -> dict[str, Any]:
    """Describe one term: the policy sees the value, with noise of at most so much, times ``scale``."""
    return {
        "name": name, "size": size, "frame": frame, "unit": unit, "scale": scale, "clip": None,
        "robot_noise": noise,
    }  # fmt: skip


def _commands(task: Go2Task) -> dict[str, Any]:
    if task.task == "forward":
        return {"ahead_mps": [task.speed_mps] * 2, "left_mps": [0.0, 0.0], "turn_radps": [0.0, 0.0]}
    return {
        "ahead_mps": [float(limit) for limit in task.command_x_mps],
        "left_mps": [float(limit) for limit in task.command_y_mps],
        "turn_radps": [float(limit) for limit in task.command_turn_radps],
    }
