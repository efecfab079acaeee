"""Bodies, goals, threads, bad input and faults of the batch; ``test_contract`` tries the protocol itself."""

from __future__ import annotations

import numpy as np
import pytest

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.body import standard_bodies
from lit_rl.envs.arm.task import spiral
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import Step


def play(arms: PlanarArms, actions: np.ndarray) -> Step:
    """Play ``actions`` ``(steps, arms, joints)``, and return the last step."""
    return [arms.step(action) for action in actions][-1]


def actions(arms: PlanarArms, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (steps, arms.num_envs, arms.width)).astype(np.float32)


def test_goals_within_reach_fill_the_ring():
    arms = PlanarArms(2000)
    arms.reset(0)
    share = np.hypot(*arms.goal.T) / 0.3
    assert 0.15 <= share.min() < 0.2
    assert 0.93 < share.max() <= 0.95
    assert np.mean(share**2) == pytest.approx((0.15**2 + 0.95**2) / 2, abs=0.02)  # uniform over the area
    assert np.abs(arms.goal.mean(0)).max() < 0.02


def test_goals_lie_beside_obstacles():
    obstacles = np.array([[0.15, 0.1, 0.08], [-0.2, 0.0, 0.06], [0.0, -0.2, 0.1]])
    arms = PlanarArms(2000, obstacles=obstacles.tolist())
    arms.reset(0)
    gap = np.hypot(*(arms.goal[:, None] - obstacles[:, :2]).transpose(2, 0, 1)) - obstacles[:, 2]
    assert 0.02 < gap.min() < 0.03


def test_fixed_goals_follow_each_other_from_the_seed_on():
    arms = PlanarArms(3, goals="spiral", num_steps=4)
    arms.reset(31)
    np.testing.assert_allclose(arms.goal, spiral()[[31, 0, 1]], rtol=1e-6)
    play(arms, actions(arms, 4))
    np.testing.assert_allclose(arms.goal, spiral()[[0, 1, 2]], rtol=1e-6)
    assert np.hypot(*spiral().T).max() < 0.47


def test_every_episode_draws_one_of_the_arms():
    arms = PlanarArms(500, joints=[3, 4, 5, 6], num_bodies=40, num_steps=2)
    arms.reset(0)
    first = arms.body.copy()
    assert len(set(first.tolist())) == 40
    step = play(arms, actions(arms, 2))
    assert step.truncated.all()
    assert np.mean(first == arms.body) < 0.1
    counts = arms.bodies.num_joints[arms.body]
    np.testing.assert_array_equal(step.obs["joint_mask"].sum(1), counts)


def test_bodies_can_be_given_one_for_each_environment():
    arms = PlanarArms(4, joints=[3, 4, 5, 6], num_steps=2)
    obs = arms.set_bodies(standard_bodies([3, 6]), np.array([1, 0, 0, 1]))
    assert obs["joint_mask"].sum(1).tolist() == [6, 3, 3, 6]
    step = play(arms, actions(arms, 5))
    assert step.obs["joint_mask"].sum(1).tolist() == [6, 3, 3, 6]  # they stay


@pytest.mark.parametrize(
    ("settings", "counts", "message"),
    [
        ({"joints": 3}, [4], "expects arms of exactly 3 joints here, got 4 to 4"),
        ({"joints": 4}, [3], "expects arms of exactly 4 joints here, got 3 to 3"),
        ({"joints": 3, "max_joints": 5}, [3, 6], "expects arms of at most 5 joints here, got 3 to 6"),
    ],
)
def test_bodies_without_room_are_refused(settings, counts, message):
    with pytest.raises(ValueError, match=message):
        PlanarArms(2, **settings).set_bodies(standard_bodies(counts))


def test_numbers_of_no_body_are_refused():
    with pytest.raises(ValueError, match="body must hold 2 numbers from 0 to 0"):
        PlanarArms(2).set_bodies(standard_bodies([3]), np.array([0, 1]))


def test_threads_change_no_number():
    settings = {"joints": [3, 4, 5, 6], "num_bodies": 50, "num_steps": 20, "layout": "tokens"}
    arms, shared = PlanarArms(37, **settings), PlanarArms(37, **settings, threads=3)
    arms.reset(1)
    shared.reset(1)
    for action in actions(arms, 45):
        step, other = arms.step(action), shared.step(action)
        np.testing.assert_array_equal(step.reward, other.reward)
        np.testing.assert_array_equal(step.obs["joint_tokens"], other.obs["joint_tokens"])
    shared.close()


@pytest.mark.wide
def test_physics_in_float32_stays_close_to_float64():
    single, double = PlanarArms(16, joints=6), PlanarArms(16, joints=6, precision="float64")
    got, expected = (play(arms, actions(arms, 100)) for arms in (single, double))
    assert got.obs.dtype == expected.obs.dtype == np.float32
    np.testing.assert_allclose(got.obs, expected.obs, atol=1e-3)


def test_an_action_that_is_no_number_is_found_and_named():
    class Broken(UniformPolicy):
        def act(self, *args, **kwargs):
            decision = super().act(*args, **kwargs)
            decision.action[1, 0] = float("nan")
            return decision

    env = PlanarArms(3)
    with pytest.raises(FloatingPointError, match=r"environment 1\b"):
        InlineCollector(env, 0).collect(Broken(env.spec), 4, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"joints": 2}, "joints = 2, expected 3 <= joints <= 6"),
        ({"joints": 7}, "joints = 7, expected 3 <= joints <= 6"),
        ({"max_joints": 9}, "max_joints = 9, expected 3 <= max_joints <= 6, or null"),
        ({"joints": 5, "max_joints": 4}, "max_joints=4 has no room for an arm of 5 joints"),
        ({"length_m": [0.2, 0.1]}, r"length_m must be .*, got \(0.2, 0.1\); the bounds are reversed"),
        ({"gear": [0.2, 0.1], "num_bodies": 3}, "gear must be .*; the bounds are reversed"),
        ({"num_bodies": 0}, "num_bodies = 0, expected 1 <= num_bodies <= 1000000, or null"),
        ({"bodies": [], "num_bodies": 2}, "give only one"),
        ({"bodies": []}, "bodies must be a list .* at least one arm, got none"),
        ({"layout": "trigg"}, "layout = 'trigg', expected trig, seed or tokens. Did you mean trig?"),
        ({"layout": "tokens", "morph": True}, "tokens describe the body already"),
        ({"goals": "spirl"}, "goals must be reach, spiral, or a list .* Did you mean spiral?"),
        ({"goals": []}, "goals must hold at least one"),
        ({"goals": [[0.1]]}, r"goals must hold at least one \[x, y\]"),
        ({"goals": [[0.0, 0.0]]}, "must not all lie in the base"),
        ({"obstacles": [[0.1, 0.1]]}, "each of obstacles must be"),
        ({"obstacles": [[0.1, 0.0, 0.2]]}, "obstacles must leave the base"),
        ({"obstacles": 3}, "obstacles = 3, expected a list"),
        ({"goals": 3}, "goals = 3, expected text, or a list"),
        ({"joints": "34"}, "joints = '34', expected a whole number with 3 <= joints <= 6, or a list"),
        ({"length_m": 0.1}, "length_m = 0.1, expected a list"),
        ({"bodies": {"lengths": [1]}}, "bodies = {'lengths': .1.}, expected a list, or null"),
        ({"num_steps": 0}, "num_steps = 0, expected 1 <= num_steps"),
        ({"step_s": 0.0}, "step_s = 0.0, expected step_s > 0"),
        ({"success_m": float("inf")}, "success_m = inf, expected a finite number with success_m > 0"),
        (
            {"record": ["distance"]},
            "record='distance' is not reported by PlanarArm-v0. Did you mean distance_m?",
        ),
        ({"lenght_m": 1}, "PlanarArm has no setting 'lenght_m'. Did you mean length_m?"),
        ({"render_mode": "human"}, "render_mode = 'human', expected rgb_array, or null"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        PlanarArms(2, **settings)
    assert "\n" not in str(caught.value)


def test_an_action_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"action must have shape \(2, 3\) \(arms, joints\), got \(2, 4\)"):
        PlanarArms(2).step(np.zeros((2, 4), np.float32))


@pytest.mark.wide  # kernels of other sizes are compiled
def test_a_state_of_other_environments_is_refused():
    state = PlanarArms(3).get_state()
    with pytest.raises(ValueError, match="make as many environments, of the same precision"):
        PlanarArms(2).set_state(state)
    with pytest.raises(ValueError, match="make as many environments, of the same precision"):
        PlanarArms(3, precision="float64").set_state(state)


def test_the_state_holds_the_bodies_that_were_given():
    settings = {"joints": [3, 4, 5, 6]}
    arms, other = PlanarArms(2, **settings), PlanarArms(2, **settings)
    arms.set_bodies(standard_bodies([5, 4]))
    other.set_state(arms.get_state())
    assert other.bodies.num_joints.tolist() == [5, 4]
    action = np.ones((2, 6), np.float32)
    np.testing.assert_array_equal(arms.step(action).obs["padded"], other.step(action).obs["padded"])


@pytest.mark.parametrize("env", ["PlanarArm-v0", "lit_rl.envs.arm:PlanarArm-v0"])
def test_its_id_makes_the_native_batch(env: str):
    made = make_vector_env(env, 5, env_kwargs={"joints": 4}, record=["distance_m"])
    assert isinstance(made, PlanarArms)
    assert (made.num_envs, made.width) == (5, 4)
    made.reset(0)
    assert made.step(np.zeros((5, 4), np.float32)).metrics["distance_m"].shape == (5,)


def test_fixed_bodies_are_numbered_and_stay():
    """Environment i has body i % 3 in every episode, and says so beside the numbers of its layout."""
    arms = PlanarArms(5, joints=[3], num_bodies=3, body_seed=1, num_steps=2, fixed_bodies=True)
    drawn = PlanarArms(5, joints=[3], num_bodies=3, body_seed=1, num_steps=2)
    assert arms.spec.observation["body_number"].categories == [3]  # type: ignore[index]
    obs = arms.reset(4)
    numbers = [obs["body_number"]]
    assert obs["padded"].shape == drawn.reset(4).shape == (5, 14)
    for t in range(4):
        step = arms.step(np.zeros((5, 3), np.float32))
        numbers.append(step.obs["body_number"])
        assert (step.final_obs is None) == (t % 2 == 0)
        if step.final_obs is not None:
            numbers.append(step.final_obs["body_number"])
    for number in numbers:
        assert number.tolist() == [0, 1, 2, 0, 1]
        assert number.dtype == np.int64
    assert arms.begin_episodes(np.array([4, 2]))["body_number"].tolist() == [1, 2]
    again = PlanarArms(5, joints=[3], num_bodies=3, body_seed=9, num_steps=2, fixed_bodies=True)
    again.set_state(arms.get_state())
    np.testing.assert_array_equal(again.step(np.ones((5, 3), np.float32)).obs["padded"],
                                  arms.step(np.ones((5, 3), np.float32)).obs["padded"])  # fmt: skip
    with pytest.raises(ValueError, match="at most 3 arms, which fixed_bodies numbers, got 4"):
        arms.set_bodies(arms.task.space.decode(np.random.default_rng(0).random((4, 13))))
    assert arms.set_bodies(arms.bodies, np.array([2, 1, 0, 0, 0]))["body_number"].tolist() == [2, 1, 0, 0, 0]
