"""What one call does for all robots before and after the physics: control, reward, ends and observations.

Compiled code. Axes: N environments (one robot each), E chosen environments, O observation features.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lit_rl.envs.go2.model import HIGH_RAD, LEGS, LOW_RAD, NUM_JOINTS, STANCE_M, STANCE_RAD
from lit_rl.envs.go2.observations import push_frame, write_critic, write_frame
from lit_rl.envs.go2.rewards import SHORT_STEP_S, write_terms
from lit_rl.envs.jit import compiled, njit
from lit_rl.envs.sources import digest_of_sources
from lit_rl.envs.streams import uniform

MEASURES = (
    "x_velocity",
    "y_velocity",
    "turn_rate",
    "velocity_error",
    "turn_error",
    "height",
    "feet_on_ground",
    "has_fallen",
    "has_diverged",
    "is_success",
)
"""What is measured of every step, beside the terms of the reward: velocities in m/s and rad/s in the frame of
the trunk, absolute errors against the command, the height of the trunk in m, how many feet press on the
ground, and three flags."""
LOWEST_M, STEEPEST = 0.15, -0.5
"""A robot has fallen when its trunk is lower, or when its upright axis leans by more than 60 degrees."""
_FREE_RADPS, _KNEE_RADPS, _DRIVING_NM, _BRAKING_NM = 30.0, 13.5, 20.2, 23.4
"""The motors' torque-speed curve: full torque up to the knee, none at the free speed, more while braking."""
_SUCCESS_MPS = 0.25


class Rows(NamedTuple):
    """The robots' own numbers, beside the states of the simulations.

    Attributes:
        key: Keys of the random streams, (N,) uint64.
        num_drawn: Numbers drawn from them, (N,) uint64.
        step_count: Steps since the episode began, (N,) int64.
        command: Wanted x and y velocity and turning rate, (N, 3).
        command_left: Steps until the next command, (N,) int64.
        push_left: Steps until the next push, (N,) int64.
        action: Last actions, (N, 12).
        smooth: Last smoothed actions, (N, 12).
        targets: Joint angles asked for, newest first, (N, delays, 12).
        latency: Substeps from an action to the motors, (N,) int64.
        bias: Constant errors of the measured angles, (N, 12).
        drawn: Friction, added mass, gain factor and shifts (x, y, z) of the trunk's centre, (N, 6).
        torque: Torques of the last substep, (N, 12).
        air: Steps for which each foot has been in the air, (N, 4).
        sums: Steps taken in the episode, and sums of x velocity and velocity error over them, (N, 3).
        frames: Observations of the history, (N, history, O) float32.
        critic: What only a simulator knows, (N, 60) float32; (N, 0) where it is not asked for.
    """

    key: np.ndarray
    num_drawn: np.ndarray
    step_count: np.ndarray
    command: np.ndarray
    command_left: np.ndarray
    push_left: np.ndarray
    action: np.ndarray
    smooth: np.ndarray
    targets: np.ndarray
    latency: np.ndarray
    bias: np.ndarray
    drawn: np.ndarray
    torque: np.ndarray
    air: np.ndarray
    sums: np.ndarray
    frames: np.ndarray
    critic: np.ndarray


class Settings(NamedTuple):
    """The settings of a ``Go2Task`` as numbers, for compiled code."""

    is_joystick: bool
    speed: float
    ranges: np.ndarray
    """(3, 2): commands that are drawn."""
    standing_share: float
    resample_steps: np.ndarray
    push_steps: np.ndarray
    push: float
    num_steps: int
    step_s: float
    num_substeps: int
    scale: np.ndarray
    smoothing: float
    latency: np.ndarray
    randomize: bool
    start_noise: float
    drawn: np.ndarray
    """(6, 2): ranges of friction, added mass, gain factor and shifts."""
    bias: float
    noise: float
    is_full: bool
    is_staggered: bool
    weights: np.ndarray
    """Weights of the reward's terms."""
    stance: np.ndarray
    low: np.ndarray
    high: np.ndarray


def numbers_of(task: Any) -> Settings:
    """Turn the settings of a ``Go2Task`` into numbers."""

    def steps(seconds: Any) -> np.ndarray:
        longest = 2.0**40  # of which nobody sees the end
        return np.array([max(1.0, min(second / task.control_s, longest)) for second in seconds])

    shift = [-task.shift_m, task.shift_m]
    substep_ms = 1000 * task.timestep_s
    return Settings(
        is_joystick=task.task == "joystick",
        speed=float(task.speed_mps),
        ranges=np.array([task.command_x_mps, task.command_y_mps, task.command_turn_radps], float),
        standing_share=float(task.standing_share),
        resample_steps=steps(task.resample_s),
        push_steps=steps(task.push_every_s),
        push=float(task.push_mps) if task.randomize else 0.0,
        num_steps=task.max_traj_length,
        step_s=float(task.control_s),
        num_substeps=task.num_substeps,
        scale=np.tile(np.array(task.action_scale_rad, float), 4),
        smoothing=float(task.action_smoothing),
        latency=np.round(np.array(task.latency_ms, float) / substep_ms),
        randomize=task.randomize,
        start_noise=float(task.start_noise_rad),
        drawn=np.array([task.friction, task.added_mass_kg, task.gain_factor, shift, shift, shift], float),
        bias=float(task.encoder_bias_rad),
        noise=float(task.noise),
        is_full=task.observation == "full",
        is_staggered=task.staggered,
        weights=np.array(list(task.weights.values()), float),
        stance=STANCE_RAD,
        low=LOW_RAD,
        high=HIGH_RAD,
    )


def make_rows(num: int, task: Any) -> Rows:
    """Make the numbers of N robots, all 0 until episodes begin."""
    longest = int(numbers_of(task).latency.max())
    delayed = 1 + -(-longest // task.num_substeps)
    critic = 60 if task.critic else 0
    return Rows(
        key=np.zeros(num, np.uint64),
        num_drawn=np.zeros(num, np.uint64),
        step_count=np.zeros(num, np.int64),
        command=np.zeros((num, 3)),
        command_left=np.zeros(num, np.int64),
        push_left=np.zeros(num, np.int64),
        action=np.zeros((num, NUM_JOINTS)),
        smooth=np.zeros((num, NUM_JOINTS)),
        targets=np.zeros((num, delayed, NUM_JOINTS)),
        latency=np.zeros(num, np.int64),
        bias=np.zeros((num, NUM_JOINTS)),
        drawn=np.zeros((num, 6)),
        torque=np.zeros((num, NUM_JOINTS)),
        air=np.zeros((num, len(LEGS))),
        sums=np.zeros((num, 3)),
        frames=np.zeros((num, task.history, task.num_features), np.float32),
        critic=np.zeros((num, critic), np.float32),
    )


@njit
def _between(low_high, e, rows):
    return low_high[0] + (low_high[1] - low_high[0]) * uniform(e, rows.key, rows.num_drawn)


@njit
def _draw_command(e, rows, task):
    """Ask robot ``e`` for another velocity."""
    if not task.is_joystick:
        rows.command[e, 0], rows.command[e, 1], rows.command[e, 2] = task.speed, 0.0, 0.0
        rows.command_left[e] = task.num_steps + 1
        return
    stands = uniform(e, rows.key, rows.num_drawn) < task.standing_share
    for i in range(3):
        wanted = _between(task.ranges[i], e, rows)
        rows.command[e, i] = 0.0 if stands else wanted
    rows.command_left[e] = int(_between(task.resample_steps, e, rows))


@njit
def _motion_of(e, qpos, qvel, velocity, gravity):
    """Write velocity and gravity in the frame of the trunk."""
    w, x, y, z = qpos[e, 3], qpos[e, 4], qpos[e, 5], qpos[e, 6]
    vx, vy, vz = qvel[e, 0], qvel[e, 1], qvel[e, 2]
    rxx, rxy, rxz = 1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)
    ryx, ryy, ryz = 2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)
    rzx, rzy, rzz = 2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)
    velocity[0] = rxx * vx + ryx * vy + rzx * vz
    velocity[1] = rxy * vx + ryy * vy + rzy * vz
    velocity[2] = rxz * vx + ryz * vy + rzz * vz
    gravity[0], gravity[1], gravity[2] = -rzx, -rzy, -rzz


@njit
def _see(e, qpos, qvel, rows, task, is_first):
    """Let robot ``e`` observe its state now."""
    velocity, gravity = np.empty(3), np.empty(3)
    _motion_of(e, qpos, qvel, velocity, gravity)
    turn, speeds = qvel[e, 3:6], qvel[e, 6:]
    frame = np.empty(rows.frames.shape[2], np.float32)
    measured = qpos[e, 7:] + rows.bias[e]
    write_frame(e, frame, 0, task.is_full, velocity, turn, gravity, measured, speeds, task.stance,
                task.noise, rows)  # fmt: skip
    push_frame(rows.frames[e], frame, is_first)
    if rows.critic.shape[1]:
        angles = qpos[e, 7:]
        write_critic(e, rows.critic[e], velocity, turn, gravity, angles, speeds, task.stance, rows)


def _make_functions(stamp: str) -> tuple[Any, ...]:
    """Make the compiled functions, which name ``stamp``, the digest of all files compiled into them."""

    @compiled
    def begin(chosen, qpos, qvel, rows, task, is_start):
        """Begin episodes of the robots ``chosen`` ``(E,)``: pose, what is drawn, command, observation."""
        _ = stamp
        for e in chosen:
            for i in range(7):
                qpos[e, i] = 0.0
            qpos[e, 2], qpos[e, 3] = STANCE_M, 1.0
            for i in range(NUM_JOINTS):
                shift = (
                    task.start_noise * (2 * uniform(e, rows.key, rows.num_drawn) - 1)
                    if task.randomize
                    else 0.0
                )
                qpos[e, 7 + i] = task.stance[i] + shift
                rows.bias[e, i] = 0.0
                if task.randomize and task.bias > 0:
                    rows.bias[e, i] = task.bias * (2 * uniform(e, rows.key, rows.num_drawn) - 1)
            for i in range(6 + NUM_JOINTS):
                qvel[e, i] = 0.0
            if task.randomize:
                for i in range(6):
                    rows.drawn[e, i] = _between(task.drawn[i], e, rows)
            span = task.latency[1] - task.latency[0]
            rows.latency[e] = int(
                task.latency[0] + math.floor((span + 1) * uniform(e, rows.key, rows.num_drawn))
            )
            rows.step_count[e] = 0
            if is_start and task.is_staggered:
                rows.step_count[e] = int(task.num_steps * uniform(e, rows.key, rows.num_drawn))
            rows.push_left[e] = int(_between(task.push_steps, e, rows))
            for i in range(NUM_JOINTS):
                rows.action[e, i] = rows.smooth[e, i] = rows.torque[e, i] = 0.0
                for d in range(rows.targets.shape[1]):
                    rows.targets[e, d, i] = task.stance[i]
            for i in range(rows.air.shape[1]):
                rows.air[e, i] = 0.0
            rows.sums[e, 0] = rows.sums[e, 1] = rows.sums[e, 2] = 0.0
            _draw_command(e, rows, task)
            _see(e, qpos, qvel, rows, task, True)

    @compiled
    def command(action, rows, task, controls, change2):
        """Turn actions (N, 12) into what motors are asked for, ``controls`` (N, substeps, 12).

        ``change2`` (N,) becomes the sum of the squared changes of the action.
        """
        _ = stamp
        for e in range(len(action)):
            change2[e] = 0.0
            for d in range(rows.targets.shape[1] - 1, 0, -1):
                rows.targets[e, d] = rows.targets[e, d - 1]
            for i in range(NUM_JOINTS):
                a = float(action[e, i])
                if a > 1.0:  # not min and max: NaN must come through
                    a = 1.0
                elif a < -1.0:
                    a = -1.0
                change2[e] += (a - rows.action[e, i]) ** 2
                rows.action[e, i] = a
                rows.smooth[e, i] += (1 - task.smoothing) * (a - rows.smooth[e, i])
                angle = task.stance[i] + task.scale[i] * rows.smooth[e, i]
                rows.targets[e, 0, i] = min(max(angle, task.low[i]), task.high[i])
            for k in range(controls.shape[1]):
                late = rows.latency[e] - k
                d = 0 if late <= 0 else -(-late // task.num_substeps)
                for i in range(NUM_JOINTS):
                    controls[e, k, i] = rows.targets[e, d, i] - rows.bias[e, i]

    @compiled
    def limit_torques(speeds, torque, limits):
        """Write the torques that motors can give at their speeds (N, 12) into ``limits`` (N, 12, 2).

        A motor that drives gives its full torque up to a knee, and less from there on, none at its free
        speed; one that brakes gives more.
        """
        _ = stamp
        for e in range(len(speeds)):
            for i in range(NUM_JOINTS):
                speed = speeds[e, i]
                share = (_FREE_RADPS - abs(speed)) / (_FREE_RADPS - _KNEE_RADPS)
                driving = _DRIVING_NM * min(max(share, 0.0), 1.0)
                limits[e, i, 0] = -min(driving if speed < 0 else _BRAKING_NM, torque[i])
                limits[e, i, 1] = min(driving if speed > 0 else _BRAKING_NM, torque[i])

    @compiled
    def judge(qpos, qvel, torque, force, has_diverged, change2, rows, task, terms, measures, reward,
              terminated, truncated):  # fmt: skip
        """Judge the step that all robots took: reward, ends, measures; and let those that go on observe."""
        _ = stamp
        velocity, gravity = np.empty(3), np.empty(3)
        for e in range(len(reward)):
            rows.step_count[e] += 1
            if has_diverged[e]:
                for k in range(terms.shape[1]):
                    terms[e, k] = 0.0
                for k in range(measures.shape[1]):
                    measures[e, k] = 0.0
                measures[e, 8] = 1.0
                reward[e], terminated[e], truncated[e] = 0.0, True, False
                continue
            _motion_of(e, qpos, qvel, velocity, gravity)
            turn, asked = qvel[e, 3:6], rows.command[e]
            torque2 = bend2 = 0.0
            for i in range(NUM_JOINTS):
                bend2 += (qpos[e, 7 + i] - task.stance[i]) ** 2
                rows.torque[e, i] = torque[e, i]
                torque2 += torque[e, i] * torque[e, i]
            has_fallen = gravity[2] > STEEPEST or qpos[e, 2] < LOWEST_M
            on_ground, lifted = 0, 0.0
            for i in range(rows.air.shape[1]):
                if force[e, i] <= 0:
                    rows.air[e, i] += 1
                    continue
                on_ground += 1
                if rows.air[e, i] > 0:
                    lifted += task.step_s * rows.air[e, i] - SHORT_STEP_S
                rows.air[e, i] = 0.0
            if asked[0] == 0 and asked[1] == 0 and asked[2] == 0:
                lifted = 0.0
            reward[e] = write_terms(
                e, terms, task.weights, task.is_joystick, velocity, turn, gravity, asked, bend2, torque2,
                change2[e], has_fallen, lifted)  # fmt: skip
            error = math.sqrt((velocity[0] - asked[0]) ** 2 + (velocity[1] - asked[1]) ** 2)
            rows.sums[e, 0] += 1
            rows.sums[e, 1] += velocity[0]
            rows.sums[e, 2] += error
            is_end = rows.step_count[e] >= task.num_steps
            terminated[e], truncated[e] = has_fallen, is_end and not has_fallen
            if task.is_joystick:
                is_good = rows.sums[e, 2] <= _SUCCESS_MPS * rows.sums[e, 0]
            else:
                is_good = rows.sums[e, 1] >= 0.5 * task.speed * rows.sums[e, 0]
            measures[e, 0], measures[e, 1], measures[e, 2] = velocity[0], velocity[1], turn[2]
            measures[e, 3], measures[e, 4] = error, abs(turn[2] - asked[2])
            measures[e, 5], measures[e, 6] = qpos[e, 2], on_ground
            measures[e, 7], measures[e, 8] = 1.0 if has_fallen else 0.0, 0.0
            measures[e, 9] = 1.0 if truncated[e] and is_good else 0.0
            rows.command_left[e] -= 1
            if rows.command_left[e] <= 0:
                _draw_command(e, rows, task)
            rows.push_left[e] -= 1
            if rows.push_left[e] <= 0:
                rows.push_left[e] = int(_between(task.push_steps, e, rows))
                if task.push > 0:
                    for i in (0, 1, 5):
                        qvel[e, i] += task.push * (2 * uniform(e, rows.key, rows.num_drawn) - 1)
            _see(e, qpos, qvel, rows, task, False)

    return begin, command, limit_torques, judge


begin, command, limit_torques, judge = _make_functions(digest_of_sources(__file__))
"""``Go2Batch`` holds the arrays that they read and write."""
