"""The quadruped against a plain loop, its settings one by one, faults and bad input.

``test_contract`` tries the protocol itself.
"""

from __future__ import annotations

import logging
from typing import Any, get_args

import mujoco
import numpy as np
import pytest

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.check import check_env
from lit_rl.envs.go2 import Go2, Go2Batch
from lit_rl.envs.go2.kernel import limit_torques
from lit_rl.envs.go2.model import HIGH_RAD, JOINT_NAMES, LOW_RAD, STANCE_RAD, TORQUE_NM, Solver, make_model
from lit_rl.envs.go2.rewards import TERMS
from lit_rl.envs.vector import make_vector_env

TERM_NAMES = [f"reward_{term}" for term in TERMS]
EVERYTHING: dict[str, Any] = {
    "task": "joystick", "actuator": "pd_torque_speed", "latency_ms": [0, 40], "action_smoothing": 0.3,
    "shift_m": 0.05, "gain_factor": [0.9, 1.1], "encoder_bias_rad": 0.015, "push_mps": 0.5,
    "push_every_s": [0.2, 0.4], "noise": 1.0, "history": 3, "critic": True, "resample_s": [0.3, 0.6],
    "max_traj_length": 40, "staggered": True,
}  # fmt: skip


def actions(num_steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (num_steps, num_envs, 12)).astype(np.float32)


def simulations_of(robots: Go2Batch) -> Any:
    return robots._simulations


# Against a plain loop over mj_step


def expected_observation(data: mujoco.MjData, command: np.ndarray, action: np.ndarray) -> np.ndarray:
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, data.qpos[3:7])
    rotation = rotation.reshape(3, 3)
    return np.concatenate([
        2 * rotation.T @ data.qvel[:3], 0.25 * data.qvel[3:6], rotation.T @ [0, 0, -1],
        command * [2, 2, 0.25],        data.qpos[7:] - STANCE_RAD, 0.05 * data.qvel[6:], action,
    ])  # fmt: skip


def expected_reward(data: mujoco.MjData, command: np.ndarray, change: np.ndarray, task: str) -> float:
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, data.qpos[3:7])
    velocity = rotation.reshape(3, 3).T @ data.qvel[:3]
    gravity, turn = rotation.reshape(3, 3).T @ [0, 0, -1], data.qvel[3:6]
    if task == "joystick":
        error = np.linalg.norm(velocity[:2] - command[:2])
        total = 1.5 * np.clip(1 - error / max(np.linalg.norm(command[:2]), 0.4), -1, 1)
        total += 0.75 * np.clip(1 - abs(turn[2] - command[2]) / max(abs(command[2]), 0.5), -1, 1)
    else:
        total = 1.5 * np.clip(1 - abs(velocity[0] - command[0]) / command[0], -1, 1)
        total -= 0.3 * (turn[2] - command[2]) ** 2 + (velocity[1] - command[1]) ** 2
    torque = data.actuator_force
    total -= velocity[2] ** 2 + 0.05 * (turn[:2] ** 2).sum() + (gravity[:2] ** 2).sum()
    return total - 2e-4 * torque @ torque - 0.01 * change @ change


@pytest.mark.parametrize("task", ["forward", "joystick"])
@pytest.mark.parametrize("timestep_s", [0.004, 0.01])
def test_a_batch_is_what_a_plain_loop_computes(task: str, timestep_s: float):
    robots = Go2Batch(3, task=task, timestep_s=timestep_s, randomize=False, threads=2, record=["x_velocity"])
    robots.reset(4)
    model = make_model(timestep_s, 35.0, 0.5)
    data = mujoco.MjData(model)
    data.qpos[2], data.qpos[3], data.qpos[7:] = 0.3, 1, STANCE_RAD
    before, seen = np.zeros(12), actions(60, 3)
    for action in 0.5 * seen:
        command = robots._rows.command[1].copy()
        step = robots.step(action)
        wanted = action[1].astype(float)
        data.ctrl[:] = np.clip(STANCE_RAD + np.tile([0.2, 0.4, 0.4], 4) * wanted, LOW_RAD, HIGH_RAD)
        mujoco.mj_step(model, data, round(0.02 / timestep_s))
        assert not step.terminated.any()
        np.testing.assert_allclose(simulations_of(robots).qpos[1], data.qpos, rtol=0, atol=1e-10)
        next_command = robots._rows.command[1]
        np.testing.assert_allclose(
            step.obs[1], expected_observation(data, next_command, wanted), rtol=1e-6, atol=1e-6
        )
        expected = expected_reward(data, command, wanted - before, task)
        assert step.reward[1] == pytest.approx(expected, abs=1e-5)
        before = wanted


def play(robots: Go2Batch, seed: int, given: np.ndarray) -> list[Any]:
    return [robots.reset(seed), *(robots.step(action) for action in given)]


def test_any_number_of_threads_gives_the_same_bits():
    given = actions(50, 6)
    one, three = (play(Go2Batch(6, threads=threads, **EVERYTHING), 7, given) for threads in (1, 3))
    for got, expected in zip(one[1:], three[1:], strict=True):
        np.testing.assert_array_equal(got.obs["observation"], expected.obs["observation"])
        np.testing.assert_array_equal(got.obs["critic"], expected.obs["critic"])
        np.testing.assert_array_equal(got.reward, expected.reward)
        np.testing.assert_array_equal(got.terminated, expected.terminated)


@pytest.mark.parametrize("settings", [{}, EVERYTHING])
def test_one_robot_by_gymnasium_is_the_same_robot_in_a_batch(settings: dict[str, Any]):
    batch, single = Go2Batch(3, **settings), Go2(**settings)
    seen, (obs, _) = batch.reset(20), single.reset(seed=22)
    key = (lambda tree: tree["observation"]) if settings else lambda tree: tree
    np.testing.assert_array_equal(key(obs), key(seen)[2])
    for action in actions(70, 3):
        step = batch.step(action)
        obs, reward, terminated, truncated, info = single.step(action[2])
        assert (reward, terminated, truncated) == (step.reward[2], step.terminated[2], step.truncated[2])
        assert sum(info["reward_info"].values()) == reward  # exactly
        if terminated or truncated:
            obs, _ = single.reset()
        np.testing.assert_array_equal(key(obs), key(step.obs)[2])


def test_gymnasiums_and_our_own_check_pass():
    check_env(lambda: Go2(max_traj_length=50), name="GO2-v0")
    env = make_vector_env("GO2-v0", 5, env_kwargs={"max_traj_length": 5}, record=["x_velocity"])
    assert isinstance(env, Go2Batch)


def test_weights_of_terms_can_be_given():
    names = ["reward_tilt", "reward_posture", "reward_fall"]
    usual = Go2Batch(2, record=names)
    strict = Go2Batch(2, record=names, reward_weights={"tilt": 3.0, "posture": 0.5})
    given = actions(1, 2)[0]
    for robots in (usual, strict):
        robots.reset(0)
    step, other = usual.step(given), strict.step(given)
    np.testing.assert_allclose(other.metrics["reward_tilt"], 3 * step.metrics["reward_tilt"], atol=2e-6)
    bend = simulations_of(strict).qpos[:, 7:] - STANCE_RAD
    np.testing.assert_allclose(other.metrics["reward_posture"], -0.5 * (bend**2).sum(1), rtol=1e-4)
    assert step.metrics["reward_posture"].tolist() == [0, 0]


def test_feet_that_were_in_the_air_are_paid_when_they_touch_the_ground_again():
    stands = {"task": "joystick", "standing_share": 1.0}
    for settings, is_paid in (({}, True), (stands, False)):
        robots = Go2Batch(4, record=["reward_steps"], reward_weights={"steps": 2.0}, **settings)
        robots.reset(0)
        in_air, paid = np.zeros((4, 4)), []
        for given in actions(60, 4):
            step = robots.step(given)
            if (step.terminated | step.truncated).any():
                break
            touches = robots._force > 0
            lands = touches & (in_air > 0)
            paid.append(2.0 * np.where(lands, 0.02 * in_air - 0.1, 0).sum(1) * is_paid)
            in_air = np.where(touches, 0, in_air + 1)
            np.testing.assert_allclose(step.metrics["reward_steps"], paid[-1], atol=2e-6)
        assert np.any(np.array(paid) > 0) == is_paid
        assert np.any(np.array(paid) < 0) == is_paid


# What ends an episode


def test_a_robot_that_lies_or_leans_has_fallen_and_pays_for_it_once():
    robots = Go2Batch(3, randomize=False, record=["has_fallen", "reward_fall", "height", "is_success"])
    robots.reset(0)
    sims = simulations_of(robots)
    sims.qpos[0, 2] = 0.1
    sims.qpos[1, 3:7] = [np.cos(0.55), np.sin(0.55), 0, 0]  # 63 degrees about the axis ahead
    step = robots.step(np.zeros((3, 12), np.float32))
    assert step.terminated.tolist() == step.metrics["has_fallen"].astype(bool).tolist() == [True, True, False]
    assert step.metrics["reward_fall"].tolist() == [-10, -10, 0]
    assert step.final_obs is not None
    np.testing.assert_array_equal(step.obs[0], robots.begin_episodes(np.array([0]))[0])  # it stands again
    assert step.final_obs[1][8] > -0.5  # gravity, of which less than half points down


def test_only_those_who_walked_half_the_way_succeed():
    robots = Go2Batch(3, randomize=False, max_traj_length=10, record=["is_success"])
    robots.reset(0)
    for _ in range(9):
        simulations_of(robots).qvel[:, 0] = [0.3, 0.8, 1.2]
        robots.step(np.zeros((3, 12), np.float32))
    step = robots.step(np.zeros((3, 12), np.float32))
    assert step.truncated.all()
    assert not step.terminated.any()
    assert step.metrics["is_success"].tolist() == [0, 1, 1]


def test_joystick_commands_change_and_some_robots_stand():
    robots = Go2Batch(400, task="joystick", resample_s=[0.04, 0.06], command_x_mps=[-0.5, 1.0])
    robots.reset(0)
    first = robots._rows.command.copy()
    assert np.mean((first == 0).all(1)) == pytest.approx(0.1, abs=0.04)
    moving = first[(first != 0).any(1)]
    assert -0.5 <= moving[:, 0].min() < -0.4
    assert 0.9 < moving[:, 0].max() <= 1.0
    for _ in range(3):
        robots.step(np.zeros((400, 12), np.float32))
    assert (robots._rows.command != first).any(1).mean() > 0.85


# Settings


def test_latency_delays_targets_by_substeps():
    robots = Go2Batch(1, latency_ms=[12, 12], randomize=False)
    robots.reset(0)
    robots.step(np.zeros((1, 12), np.float32))
    robots.step(np.ones((1, 12), np.float32))
    np.testing.assert_allclose(robots._controls[0, :, 1], [0.9] * 3 + [1.3] * 2)  # three substeps of 4 ms
    late = Go2Batch(1, latency_ms=[40, 40], randomize=False)
    late.reset(0)
    sent = [0.5, 1.0, -1.0, 0.0]
    for value in sent:
        late.step(np.full((1, 12), value, np.float32))
    np.testing.assert_allclose(late._controls[0, :, 1], [0.9 + 0.4 * 1.0] * 5)  # two steps ago
    drawn = Go2Batch(500, latency_ms=[0, 40])
    assert sorted(set(drawn._rows.latency.tolist())) == list(range(11))


def test_smoothing_mixes_an_action_with_those_before():
    robots = Go2Batch(1, action_smoothing=0.75, randomize=False)
    robots.reset(0)
    for smooth in (0.25, 0.4375):
        robots.step(np.ones((1, 12), np.float32))
        np.testing.assert_allclose(
            robots._controls[0, 0, :3], [0.2 * smooth, 0.9 + 0.4 * smooth, -1.8 + 0.4 * smooth]
        )


def test_torques_of_motors_by_their_speeds():
    speeds = np.array([[0.0, 13.5, 21.75, 30.0, 40.0, -21.75] * 2])
    limits = np.zeros((1, 12, 2))
    limit_torques(speeds, TORQUE_NM, limits)
    np.testing.assert_allclose(limits[0, :6, 1], [23.4, 20.2, 10.1, 0, 0, 23.4], atol=1e-9)
    np.testing.assert_allclose(limits[0, :6, 0], [-23.4] * 5 + [-10.1])
    fast = Go2Batch(1, actuator="pd_torque_speed", randomize=False)
    fast.reset(0)
    simulations_of(fast).qvel[0, 6:] = 25.0
    fast.step(np.ones((1, 12), np.float32))
    assert np.abs(fast._varied["actuator_forcerange"]).max() <= 23.4


def test_every_robot_is_built_as_it_was_drawn():
    settings: dict[str, Any] = {
        "friction": [0.4, 1.2],
        "added_mass_kg": [-1, 3],
        "gain_factor": [0.9, 1.1],
        "shift_m": 0.05,
    }
    robots = Go2Batch(300, encoder_bias_rad=0.015, **settings)
    robots.reset(3)
    friction, mass, gain, *shift = robots._rows.drawn.T
    for values, (low, high) in (
        (friction, (0.4, 1.2)),
        (mass, (-1, 3)),
        (gain, (0.9, 1.1)),
        (shift[2], (-0.05, 0.05)),
    ):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
    varied = robots._varied
    np.testing.assert_allclose(varied["geom_friction"][:, 3, 0], friction)
    np.testing.assert_allclose(varied["body_mass"][:, 1], 6.921 + mass)
    np.testing.assert_allclose(varied["actuator_gainprm"][:, 4, 0], 35 * gain)
    np.testing.assert_allclose(varied["actuator_biasprm"][:, 4, 2], -0.5 * gain)
    np.testing.assert_allclose(varied["body_ipos"][:, 1, 0], 0.0211 + shift[0])
    bias = robots._rows.bias
    assert 0.014 < np.abs(bias).max() <= 0.015
    seen = robots._observation()[:, 12:24]
    np.testing.assert_allclose(seen, simulations_of(robots).qpos[:, 7:] - STANCE_RAD + bias, atol=1e-6)


def test_a_heavier_trunk_presses_harder_on_the_ground():
    """What was drawn reaches the physics, constants that follow from masses included."""
    robots = Go2Batch(2, randomize=True, added_mass_kg=[0, 3], start_noise_rad=0, friction=[0.8, 0.8])
    robots.reset(1)
    for _ in range(100):
        robots.step(np.zeros((2, 12), np.float32))
    extra = robots._rows.drawn[:, 1]
    force = robots._force.sum(1)
    np.testing.assert_allclose(force, 9.81 * (15.205 + extra), rtol=0.03)


def test_pushes_come_and_push():
    robots = Go2Batch(50, push_mps=0.8, push_every_s=[0.1, 0.1], start_noise_rad=0)
    robots.reset(0)
    sideways = [robots.step(np.zeros((50, 12), np.float32)).obs[:, 1] / 2 for _ in range(5)]
    assert np.abs(sideways[3]).max() < 0.2
    assert 0.5 < np.abs(sideways[4]).max() < 1.0


def test_history_keeps_the_newest_last():
    robots, plain = (Go2Batch(2, randomize=False, history=length) for length in (3, 1))
    assert robots.spec.observation.shape == [144]  # pyright: ignore[reportAttributeAccessIssue]
    given = actions(4, 2)
    seen = [obs if isinstance(obs, np.ndarray) else obs.obs for obs in play(robots, 0, given)]
    single = [obs if isinstance(obs, np.ndarray) else obs.obs for obs in play(plain, 0, given)]
    np.testing.assert_array_equal(seen[0], np.concatenate([single[0]] * 3, 1))
    np.testing.assert_array_equal(seen[4], np.concatenate(single[2:5], 1))


def test_what_robots_measure_is_part_of_what_critics_see():
    robots = Go2Batch(2, observation="robot", critic=True, encoder_bias_rad=0.01, noise=0.0)
    robots.reset(0)
    obs = robots.step(actions(1, 2)[0]).obs
    assert obs["observation"].shape == (2, 45)
    assert obs["critic"].shape == (2, 60)
    np.testing.assert_array_equal(obs["observation"][:, :9], obs["critic"][:, 3:12])
    np.testing.assert_allclose(
        obs["observation"][:, 9:21] - obs["critic"][:, 12:24], robots._rows.bias, atol=1e-6
    )
    np.testing.assert_allclose(obs["critic"][:, 48:], 0.02 * robots._torque, rtol=1e-5, atol=1e-6)


def test_noise_has_the_size_of_a_robots():
    robots = Go2Batch(400, noise=1.0, randomize=False)
    seen = robots.reset(0)
    quiet = Go2Batch(1, randomize=False).reset(0)
    for part, size in (
        (slice(3, 6), 0.25 * 0.2),
        (slice(6, 9), 0.05),
        (slice(12, 24), 0.01),
        (slice(24, 36), 0.075),
    ):
        error = np.abs(seen[:, part] - quiet[:, part])
        assert 0.97 * size < error.max() <= size * 1.0001
    np.testing.assert_array_equal(seen[:, :3], np.repeat(quiet[:, :3], 400, 0))


# Faults


def test_a_simulation_that_diverges_begins_anew_and_the_others_go_on(caplog: pytest.LogCaptureFixture):
    broken, whole = (Go2Batch(4, record=["has_diverged"]) for _ in range(2))
    broken.reset(0)
    whole.reset(0)
    given = actions(3, 4)
    first = broken.step(given[0])
    whole.step(given[0])
    simulations_of(broken).qvel[2] = 1e12
    with caplog.at_level(logging.WARNING, "lit_rl"):
        step, other = broken.step(given[1]), whole.step(given[1])
    assert (
        "GO2-v0: 1 of 4 simulations diverged (NaN or huge values) and begin anew: 2; 1 since" in caplog.text
    )
    assert step.terminated.tolist() == [False, False, True, False]
    assert step.metrics["has_diverged"].tolist() == [0, 0, 1, 0]
    assert step.reward[2] == 0
    np.testing.assert_array_equal(step.final_obs[0], first.obs[2])  # the last that was a number
    rest = [0, 1, 3]
    np.testing.assert_array_equal(step.obs[rest], other.obs[rest])
    after, other = broken.step(given[2]), whole.step(given[2])
    np.testing.assert_array_equal(after.obs[rest], other.obs[rest])
    assert np.isfinite(after.obs).all()


def test_all_simulations_that_diverge_stop_the_run():
    robots = Go2Batch(3)
    robots.reset(0)
    simulations_of(robots).qvel[:] = 1e12
    with pytest.raises(FloatingPointError, match="GO2-v0: all 3 simulations diverged"):
        robots.step(np.zeros((3, 12), np.float32))


def test_an_action_that_is_no_number_is_found_and_named():
    class Broken(UniformPolicy):
        def act(self, *args: Any, **kwargs: Any) -> Any:
            decision = super().act(*args, **kwargs)
            decision.action[1, 0] = float("nan")
            return decision

    env = Go2Batch(3)
    with pytest.raises(FloatingPointError, match=r"environment 1\b"):
        InlineCollector(env, 0).collect(Broken(env.spec), 4, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"task": "forwards"},
            "task = 'forwards', expected forward or joystick. Did you mean forward?",
        ),
        (
            {"command_x_mps": [1.0, -1.0]},
            r"command_x_mps must be \[lowest, highest\], got .*; it is reversed",
        ),
        ({"history": 0}, "history = 0, expected 1 <= history"),
        ({"timestep_s": 0.003}, "timestep_s = 0.003 must divide control_s = 0.02"),
        ({"latency_ms": [0, 60]}, r"latency_ms\[1\] = 60, expected 0 <= latency_ms\[1\] <= 40"),
        ({"actuator": "pid"}, "actuator = 'pid', expected pd or pd_torque_speed"),
        ({"observation": "all"}, "observation = 'all', expected robot or full"),
        ({"action_scale_rad": [0.2, 0.4]}, "action_scale_rad must hold three numbers above 0"),
        ({"speed_mps": 0.0}, "speed_mps = 0.0, expected speed_mps > 0"),
        ({"action_smoothing": 1.0}, "action_smoothing = 1.0, expected 0 <= action_smoothing <= 0.99"),
        ({"threads": 0}, "threads = 0, expected 1 <= threads <= 1000, or auto"),
        ({"reward_weights": {"tilf": 2}}, "reward_weights has no term 'tilf'. Did you mean tilt?"),
        ({"reward_weights": {"tilt": -2}}, r"reward_weights\['tilt'\] = -2, expected .* >= 0"),
        ({"frictoin": [1, 1]}, "GO2-v0 has no setting 'frictoin'. Did you mean friction?"),
        ({"record": ["x_velocty"]}, "record='x_velocty' is not reported by GO2-v0. Did you mean x_velocity?"),
        ({"num_envs": 0}, "num_envs = 0, expected 1 <= num_envs"),
        (
            {"task": "joystick", "speed_mps": 1.0},
            "speed_mps = 1.0 is for task = forward, got task = joystick; leave it out or change the task",
        ),
        (
            {"task": "joystick", "reward_weights": {"sideways": 2.0}},
            r"reward_weights\['sideways'\] is for task = forward, got task = joystick",
        ),
        ({"standing_share": 0.2}, "standing_share = 0.2 is for task = joystick, got task = forward"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as caught:
        Go2Batch(**{"num_envs": 2, **settings})
    assert "\n" not in str(caught.value)


def test_bad_actions_and_states_are_refused():
    robots = Go2Batch(2)
    with pytest.raises(
        ValueError, match=r"action must have shape \(2, 12\) \(robots, joints\), got \(3, 12\)"
    ):
        robots.step(np.zeros((3, 12), np.float32))
    with pytest.raises(ValueError, match=r"the state has .*make as many environments, with"):
        robots.set_state(Go2Batch(3).get_state())


def test_states_of_before_feet_in_the_air_were_counted_still_load():
    robots = Go2Batch(2)
    state = robots.get_state()
    del state["rows"]["air"]
    robots.set_state(state)


def test_figures_of_the_model():
    model = make_model(0.004, 35.0, 0.5)
    assert model.body_mass.sum() == pytest.approx(6.921 + 4 * (0.678 + 1.152 + 0.241))
    assert [model.actuator(i).name for i in range(12)] == list(JOINT_NAMES)
    np.testing.assert_allclose(model.jnt_range[1:, 0], LOW_RAD)
    np.testing.assert_allclose(model.actuator_forcerange[:, 1], TORQUE_NM)


def test_every_solver_lets_a_robot_stand():
    """They are different algorithms for the same forces."""
    heights = []
    for solver in get_args(Solver):
        robots = Go2Batch(2, solver=solver, randomize=False, record=["height", "has_fallen"])
        robots.reset(0)
        step = [robots.step(np.zeros((2, 12), np.float32)) for _ in range(25)][-1]
        assert step.metrics["has_fallen"].tolist() == [0, 0]
        heights.append(step.metrics["height"])
    np.testing.assert_allclose(heights, 0.2392, atol=1e-3)
    assert not np.array_equal(heights[0], heights[1])


def test_what_is_drawn_at_random_is_refused_where_nothing_is():
    with pytest.raises(
        ValueError,
        match=r"^GO2-v0: friction = \[0.4, 0.4\] is drawn with randomize = true, got randomize = false",
    ):
        Go2Batch(1, randomize=False, friction=[0.4, 0.4])
