"""The classes of Gymnasium: the same numbers as the batch, and Gymnasium's own checks."""

from __future__ import annotations

import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env

from lit_rl import check_env
from lit_rl.envs.arm import PlanarArm, PlanarArms, PlanarArmVector
from lit_rl.envs.vector import make_vector_env

MIXED = {"joints": [3, 4, 5, 6], "num_bodies": 9, "num_steps": 6, "layout": "tokens"}


@pytest.mark.parametrize("settings", [{}, {"layout": "seed"}, MIXED, {"joints": [3, 5], "morph": True}])
def test_one_arm_passes_our_check_and_that_of_gymnasium(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(lambda: PlanarArm(**settings), num_steps=20)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space.*|.*render_modes.*|.*spec.*")
        gymnasium_check_env(PlanarArm(render_mode="rgb_array", **settings), skip_render_check=True)


def test_it_is_registered():
    env = gymnasium.make("lit_rl.envs.arm:PlanarArm-v0", joints=4)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (17,)
    assert env.action_space.shape == (4,)


def test_one_arm_plays_what_the_batch_plays():
    env, arms = PlanarArm(**MIXED), PlanarArms(1, **MIXED)
    obs, _ = env.reset(seed=8)
    expected = arms.reset(8)
    rng = np.random.default_rng(0)
    for _ in range(20):  # three episodes end
        for key, leaf in obs.items():
            np.testing.assert_array_equal(leaf, expected[key][0])
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        obs, reward, terminated, truncated, info = env.step(action)
        step = arms.step(action[None])
        assert (reward, terminated, truncated) == (step.reward[0], False, bool(step.truncated[0]))
        assert sum(info["reward_info"].values()) == reward
        expected = step.obs
        if truncated:
            for key, leaf in obs.items():
                np.testing.assert_array_equal(leaf, step.final_obs[key][0])
            obs, _ = env.reset()


def test_after_the_end_it_wants_a_reset_and_before_it_a_reset_leaves_the_episode():
    env = PlanarArm(num_steps=2)
    first, _ = env.reset(seed=0)
    env.step(np.zeros(3))
    second, _ = env.reset()
    assert not np.array_equal(first, second)
    env.step(np.zeros(3))
    env.step(np.zeros(3))
    with pytest.raises(ValueError, match="call reset"):
        env.step(np.zeros(3))


def test_one_arm_continues_from_its_state():
    env, twin = PlanarArm(num_steps=3), PlanarArm(num_steps=3)
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.ones(3))
    twin.set_state(env.get_state())
    np.testing.assert_array_equal(env.reset()[0], twin.reset()[0])
    np.testing.assert_array_equal(env.step(np.ones(3))[0], twin.step(np.ones(3))[0])


def test_gymnasiums_vector_environment_plays_what_the_batch_plays():
    env = gymnasium.make_vec("lit_rl.envs.arm:PlanarArm-v0", 3, **MIXED)
    assert isinstance(env.unwrapped, PlanarArmVector)
    adapted = make_vector_env(PlanarArmVector, 3, env_kwargs=MIXED, record=["distance_m"])
    arms = PlanarArms(3, **MIXED, record=["distance_m"])
    obs, _ = env.reset(seed=4)
    arms.reset(4)
    adapted.reset(4)
    rng = np.random.default_rng(0)
    for _ in range(14):
        action = rng.uniform(-1, 1, (3, 6)).astype(np.float32)
        obs, reward, _, truncated, info = env.step(action)
        step, other = arms.step(action), adapted.step(action)
        np.testing.assert_array_equal(reward, step.reward)
        np.testing.assert_array_equal(info["distance_m"], step.metrics["distance_m"])
        np.testing.assert_array_equal(other.metrics["distance_m"], step.metrics["distance_m"])
        for key, leaf in step.obs.items():
            np.testing.assert_array_equal(obs[key], leaf)
            np.testing.assert_array_equal(other.obs[key], leaf)
            if truncated.any():
                np.testing.assert_array_equal(info["final_obs"][key], step.final_obs[key])
                np.testing.assert_array_equal(other.final_obs[key], step.final_obs[key])


def test_several_copies_by_gymnasium_are_several_arms():
    copies = make_vector_env("PlanarArm-v0", 2, vectorization="sync")
    arms = PlanarArms(2)
    np.testing.assert_array_equal(copies.reset(3), arms.reset(3))
