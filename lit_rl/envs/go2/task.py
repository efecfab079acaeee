"""Every setting of the quadruped's task, with its unit and its default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from lit_rl.checks import nearest
from lit_rl.envs.go2.model import Solver
from lit_rl.envs.go2.rewards import FORWARD_TURNING, TERMS, WEIGHTS
from lit_rl.processes import allowed_cores

NAME = "GO2-v0"
TaskName = Literal["forward", "joystick"]
Actuator = Literal["pd", "pd_torque_speed"]
Observation = Literal["robot", "full"]
_CHOICES = {"task": TaskName, "actuator": Actuator, "observation": Observation, "solver": Solver}
_RANGES = {
    # name: (lowest, highest) value that is allowed
    "command_x_mps": (-5.0, 5.0),
    "command_y_mps": (-5.0, 5.0),
    "command_turn_radps": (-10.0, 10.0),
    "resample_s": (0.0, math.inf),
    "friction": (0.01, 5.0),
    "added_mass_kg": (-5.0, 20.0),
    "gain_factor": (0.1, 10.0),
    "latency_ms": (0.0, 40.0),
    "push_every_s": (0.0, math.inf),
}
_ONLY_WITH = {
    "forward": ("speed_mps",),
    "joystick": ("command_x_mps", "command_y_mps", "command_turn_radps", "standing_share", "resample_s"),
}
"""Settings that only one of the tasks reads."""


@dataclass(frozen=True)
class Go2Task:
    """The task. A range is ``[lowest, highest]``; every episode of every robot draws from it.

    Args:
        task: ``forward`` asks for ``speed_mps`` straight ahead. ``joystick`` asks for velocities that are
            drawn from the three ranges ``command_...``, and drawn again after ``resample_s``.
        speed_mps: Speed that ``forward`` asks for.
        command_x_mps: Range of forward velocities that ``joystick`` draws.
        command_y_mps: Range of sideways velocities, left is positive.
        command_turn_radps: Range of turning rates, left is positive.
        standing_share: Share of the draws that ask the robot to stand still.
        resample_s: Range of the times until the next draw.
        max_traj_length: Steps until an episode is truncated.
        timestep_s: Seconds of a physics step; it must divide ``control_s``. 0.004 is precise, 0.01 takes less
            than half the time and trains policies that walk at 0.004, too.
        solver: Algorithm of MuJoCo that finds the forces of contacts; another one than in training tries
            whether a policy has learned to walk or to use the simulator.
        control_s: Seconds of a step.
        stiffness: Gain kp of the position controller of each joint, Nm/rad.
        damping: Gain kd of it, Nm s/rad.
        action_scale_rad: Target angles of hip, thigh and calf move by an action times these, around the
            stance.
        action_smoothing: Share of the last smoothed action in the next one (a low-pass filter); 0 is none.
        actuator: ``pd`` limits torques by their largest values; ``pd_torque_speed`` also by how fast a joint
            turns, as the motors of the robot do.
        latency_ms: Range of the delays from an action to the motors, rounded to physics steps.
        randomize: Whether episodes draw from the ranges below, begin with joints off the stance, and shift
            masses; otherwise all of them begin alike with the model's own numbers.
        start_noise_rad: With ``randomize``, joints begin at most this far from the stance.
        friction: Range of the friction between feet and floor.
        added_mass_kg: Range of the mass added to the trunk.
        shift_m: Largest shift of the trunk's centre of mass along each axis.
        gain_factor: Range of a factor of ``stiffness`` and ``damping``.
        encoder_bias_rad: Largest constant error of each joint's measured angle.
        push_mps: Largest change of the trunk's horizontal velocity by a push, and of its turning rate in
            rad/s; 0 does not push.
        push_every_s: Range of the times between pushes.
        noise: Factor of the usual noise of what is measured; 0 is none, 1 the noise of the robot.
        observation: ``robot`` is what a robot can measure (45 numbers), ``full`` adds the velocity of the
            trunk (48).
        critic: Whether observations have a further part, ``critic`` (60 numbers), of what only a simulator
            knows, for learners whose critic may see more than the actor.
        history: Number of newest observations that are seen together.
        reward_weights: Weights of terms of the reward, by their names, where they shall differ from the usual
            ones (``rewards.py``).
        staggered: Whether the first episodes begin at random ages, so that thousands of robots do not end
            theirs at the same step.
        threads: Threads that share the robots of a batch; ``auto`` takes all cores this process may use.

    Raises:
        ValueError: A setting is out of its range, or does not fit another one.
    """

    task: TaskName = "forward"
    speed_mps: float = 1.0
    command_x_mps: Sequence[float] = (-1.0, 1.5)
    command_y_mps: Sequence[float] = (-0.5, 0.5)
    command_turn_radps: Sequence[float] = (-1.0, 1.0)
    standing_share: float = 0.1
    resample_s: Sequence[float] = (4.0, 8.0)
    max_traj_length: int = 1000
    timestep_s: float = 0.004
    solver: Solver = "newton"
    control_s: float = 0.02
    stiffness: float = 35.0
    damping: float = 0.5
    action_scale_rad: Sequence[float] = (0.2, 0.4, 0.4)
    action_smoothing: float = 0.0
    actuator: Actuator = "pd"
    latency_ms: Sequence[float] = (0.0, 0.0)
    randomize: bool = True
    start_noise_rad: float = 0.1
    friction: Sequence[float] = (0.5, 1.1)
    added_mass_kg: Sequence[float] = (-1.0, 1.0)
    shift_m: float = 0.0
    gain_factor: Sequence[float] = (1.0, 1.0)
    encoder_bias_rad: float = 0.0
    push_mps: float = 0.0
    push_every_s: Sequence[float] = (5.0, 10.0)
    noise: float = 0.0
    observation: Observation = "full"
    critic: bool = False
    history: int = 1
    reward_weights: Mapping[str, float] | None = None
    staggered: bool = False
    threads: int | Literal["auto"] = 1

    def __post_init__(self) -> None:
        for name, literal in _CHOICES.items():
            value = getattr(self, name)
            if value not in get_args(literal):
                hint = nearest(str(value), get_args(literal))
                raise ValueError(
                    f"{NAME}: {name} must be one of {', '.join(get_args(literal))}, got {value!r}.{hint}"
                )
        for name, limits in _RANGES.items():
            _check_range(name, getattr(self, name), limits)
        for name in ("max_traj_length", "history"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{NAME}: {name} must be a whole number, at least 1, got {value!r}")
        for name in ("randomize", "critic", "staggered"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{NAME}: {name} must be true or false, got {getattr(self, name)!r}")
        for name in ("timestep_s", "control_s", "stiffness", "speed_mps"):
            _check_number(name, getattr(self, name), above=True)
        for name in ("damping", "start_noise_rad", "shift_m", "encoder_bias_rad", "push_mps", "noise"):
            _check_number(name, getattr(self, name))
        for name, highest in (("standing_share", 1.0), ("action_smoothing", 0.99)):
            value = getattr(self, name)
            _check_number(name, value)
            if value > highest:
                raise ValueError(f"{NAME}: {name} must be from 0 to {highest:g}, got {value!r}")
        scale = self.action_scale_rad
        if not _are_numbers(scale, 3) or min(scale) <= 0:
            raise ValueError(
                f"{NAME}: action_scale_rad must hold three numbers above 0 (hip, thigh, calf), got {scale!r}"
            )
        for name, weight in (self.reward_weights or {}).items():
            if name not in TERMS:
                hint = nearest(name, TERMS)
                raise ValueError(
                    f"{NAME}: reward_weights has no term {name!r}.{hint} Known: {', '.join(TERMS)}"
                )
            _check_number(f"reward_weights[{name!r}]", weight)
        ratio = self.control_s / self.timestep_s
        if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-9:
            raise ValueError(
                f"{NAME}: timestep_s = {self.timestep_s} must divide control_s = {self.control_s} "
                "(0.02 is two steps of 0.01, five of 0.004)"
            )
        is_count = isinstance(self.threads, int) and not isinstance(self.threads, bool)
        if self.threads != "auto" and (not is_count or self.threads < 1):
            raise ValueError(
                f"{NAME}: threads must be auto or a whole number, at least 1, got {self.threads!r}"
            )

    @property
    def weights(self) -> dict[str, float]:
        """Weights of all terms of the reward, in their order."""
        usual = WEIGHTS | ({"turning": FORWARD_TURNING} if self.task == "forward" else {})
        return usual | dict(self.reward_weights or {})

    @property
    def num_substeps(self) -> int:
        """Physics steps per step."""
        return round(self.control_s / self.timestep_s)

    @property
    def num_threads(self) -> int:
        """Threads as a number."""
        return allowed_cores() if self.threads == "auto" else self.threads

    @property
    def num_features(self) -> int:
        """Numbers of one observation, without history."""
        return 45 if self.observation == "robot" else 48


def make_task(settings: Mapping[str, Any]) -> Go2Task:
    """Make a task of the settings given by name; the others have their defaults.

    Raises:
        ValueError: There is no such setting, a value is out of its range, or the task does not read it.
    """
    known = [field.name for field in fields(Go2Task)]
    for name in settings:
        if name not in known:
            raise ValueError(f"{NAME} has no setting {name!r}.{nearest(name, known)}")
    task = Go2Task(**settings)
    for other, names in _ONLY_WITH.items():
        idle = [name for name in names if name in settings and other != task.task]
        if idle:
            raise ValueError(
                f"{NAME}: {idle[0]} = {settings[idle[0]]!r} is for task = {other}, got task = {task.task}; "
                "leave it out or change the task"
            )
    if task.task == "joystick" and "sideways" in (task.reward_weights or {}):
        raise ValueError(
            f"{NAME}: reward_weights['sideways'] is for task = forward, got task = joystick, whose term "
            "'tracking' judges both directions; leave it out"
        )
    return task


def _are_numbers(values: object, count: int) -> bool:
    return (
        isinstance(values, Sequence)
        and not isinstance(values, str)
        and len(values) == count
        and all(_is_number(value) for value in values)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_number(name: str, value: object, *, above: bool = False) -> None:
    if not (
        isinstance(value, int | float) and _is_number(value) and (value > 0 or (value == 0 and not above))
    ):
        limit = "above" if above else "at least"
        raise ValueError(f"{NAME}: {name} must be a number, {limit} 0, got {value!r}")


def _check_range(name: str, given: Sequence[float], limits: tuple[float, float]) -> None:
    if not _are_numbers(given, 2) or min(given) < limits[0] or max(given) > limits[1]:
        raise ValueError(
            f"{NAME}: {name} must be [lowest, highest] within {limits[0]:g} to {limits[1]:g}, got {given!r}"
        )
    if given[0] > given[1]:
        raise ValueError(f"{NAME}: {name} must be [lowest, highest], got {list(given)}; it is reversed")
