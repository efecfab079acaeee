"""Every setting of the quadruped's task, with its unit and its default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from lit_rl.arguments import Fraction, NonNegative, Positive, Range, SmallCount, Steps, check_arguments
from lit_rl.checks import nearest
from lit_rl.envs.go2.model import Solver
from lit_rl.envs.go2.rewards import FORWARD_TURNING, TERMS, WEIGHTS
from lit_rl.processes import allowed_cores

NAME = "GO2-v0"
TaskName = Literal["forward", "joystick"]
Actuator = Literal["pd", "pd_torque_speed"]
Observation = Literal["robot", "full"]
_BETWEEN = (
    "command_x_mps", "command_y_mps", "command_turn_radps", "resample_s", "friction", "added_mass_kg",
    "gain_factor", "latency_ms", "push_every_s",
)  # fmt: skip
"""Settings that are the lowest and the highest of what is drawn."""
_ONLY_WITH = {
    "forward": ("speed_mps",),
    "joystick": ("command_x_mps", "command_y_mps", "command_turn_radps", "standing_share", "resample_s"),
}
"""Settings that only one of the tasks reads."""
_RANDOM = (
    "start_noise_rad", "friction", "added_mass_kg", "shift_m", "gain_factor", "encoder_bias_rad", "push_mps",
    "push_every_s",
)  # fmt: skip
"""Settings that only episodes read that draw at random."""


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
    speed_mps: Positive = 1.0
    command_x_mps: Sequence[Annotated[float, Range(at_least=-5, at_most=5)]] = (-1.0, 1.5)
    command_y_mps: Sequence[Annotated[float, Range(at_least=-5, at_most=5)]] = (-0.5, 0.5)
    command_turn_radps: Sequence[Annotated[float, Range(at_least=-10, at_most=10)]] = (-1.0, 1.0)
    standing_share: Fraction = 0.1
    resample_s: Sequence[NonNegative] = (4.0, 8.0)
    max_traj_length: Steps = 1000
    timestep_s: Positive = 0.004
    solver: Solver = "newton"
    control_s: Positive = 0.02
    stiffness: Positive = 35.0
    damping: NonNegative = 0.5
    action_scale_rad: Sequence[Positive] = (0.2, 0.4, 0.4)
    action_smoothing: Annotated[float, Range(at_least=0, at_most=0.99)] = 0.0
    actuator: Actuator = "pd"
    latency_ms: Sequence[Annotated[float, Range(at_least=0, at_most=40)]] = (0.0, 0.0)
    randomize: bool = True
    start_noise_rad: NonNegative = 0.1
    friction: Sequence[Annotated[float, Range(at_least=0.01, at_most=5)]] = (0.5, 1.1)
    added_mass_kg: Sequence[Annotated[float, Range(at_least=-5, at_most=20)]] = (-1.0, 1.0)
    shift_m: NonNegative = 0.0
    gain_factor: Sequence[Annotated[float, Range(at_least=0.1, at_most=10)]] = (1.0, 1.0)
    encoder_bias_rad: NonNegative = 0.0
    push_mps: NonNegative = 0.0
    push_every_s: Sequence[NonNegative] = (5.0, 10.0)
    noise: NonNegative = 0.0
    observation: Observation = "full"
    critic: bool = False
    history: SmallCount = 1
    reward_weights: Mapping[str, NonNegative] | None = None
    staggered: bool = False
    threads: SmallCount | Literal["auto"] = 1

    def __post_init__(self) -> None:
        check_arguments(Go2Task, vars(self))
        for name in _BETWEEN:
            _check_order(name, getattr(self, name))
        scale = self.action_scale_rad
        if len(scale) != 3:
            raise ValueError(
                f"{NAME}: action_scale_rad must hold three numbers above 0 (hip, thigh, calf), got {scale!r}"
            )
        for name in self.reward_weights or {}:
            if name not in TERMS:
                hint = nearest(name, TERMS)
                raise ValueError(
                    f"{NAME}: reward_weights has no term {name!r}.{hint} Known: {', '.join(TERMS)}"
                )
        ratio = self.control_s / self.timestep_s
        if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-9:
            raise ValueError(
                f"{NAME}: timestep_s = {self.timestep_s} must divide control_s = {self.control_s} "
                "(0.02 is two steps of 0.01, five of 0.004)"
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
    usual = Go2Task()
    for name in _RANDOM:
        if not task.randomize and getattr(task, name) != getattr(usual, name):
            raise ValueError(
                f"{NAME}: {name} = {settings[name]!r} is drawn with randomize = true, got randomize = false; "
                "leave one of them out"
            )
    if task.task == "joystick" and "sideways" in (task.reward_weights or {}):
        raise ValueError(
            f"{NAME}: reward_weights['sideways'] is for task = forward, got task = joystick, whose term "
            "'tracking' judges both directions; leave it out"
        )
    return task


def _check_order(name: str, given: Sequence[float]) -> None:
    if len(given) != 2:
        raise ValueError(f"{NAME}: {name} must be [lowest, highest], got {list(given)}")
    if given[0] > given[1]:
        raise ValueError(f"{NAME}: {name} must be [lowest, highest], got {list(given)}; it is reversed")
