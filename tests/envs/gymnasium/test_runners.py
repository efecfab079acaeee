"""Native batches of MuJoCo's runners against the installed Gymnasium, number by number."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from lit_rl.envs.gymnasium.runners import BATCHES, Runners
from lit_rl.envs.gymnasium.vector import GymnasiumVectorEnv
from lit_rl.envs.vector import make_vector_env

IDS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5"]


def pair(env_id: str, num_envs: int, record: list[str], **kwargs: Any) -> tuple[Any, Any]:
    """A native batch, and copies of Gymnasium's environment."""
    native, copies = (
        make_vector_env(env_id, num_envs, vectorization=how, env_kwargs=kwargs, record=record)
        for how in ("auto", "sync")
    )
    assert isinstance(native, Runners)
    assert isinstance(copies, GymnasiumVectorEnv)
    return native, copies


OPTIONS: dict[str, dict[str, Any]] = {
    "HalfCheetah-v5": {"forward_reward_weight": 2.0, "ctrl_cost_weight": 0.5, "reset_noise_scale": 0.3},
    "Hopper-v5": {"healthy_reward": 2.0, "healthy_angle_range": (-0.1, 0.1), "healthy_state_range": (-5, 5)},
    "Walker2d-v5": {"terminate_when_unhealthy": False, "exclude_current_positions_from_observation": False},
}


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("has_options", [False, True])
def test_a_batch_plays_what_gymnasium_plays(env_id: str, has_options: bool):
    record = list(BATCHES[gymnasium.spec(env_id).entry_point].reported)  # type: ignore[index]
    native, copies = pair(env_id, 3, record, **(OPTIONS[env_id] if has_options else {}))
    assert native.spec == copies.spec
    np.testing.assert_array_equal(native.reset(5), copies.reset(5))
    rng, ends = np.random.default_rng(0), 0
    for _ in range(300):
        action = rng.uniform(-1.5, 1.5, (3, *native.spec.action.shape)).astype(np.float32)  # some are clipped
        ours, theirs = native.step(action), copies.step(action)
        np.testing.assert_allclose(ours.obs, theirs.obs, rtol=0, atol=1e-8)
        np.testing.assert_allclose(ours.reward, theirs.reward, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(ours.terminated, theirs.terminated)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
        assert (ours.final_obs is None) == (theirs.final_obs is None)
        if ours.final_obs is not None:
            ends += 1
            np.testing.assert_allclose(ours.final_obs, theirs.final_obs, rtol=0, atol=1e-8)
        for key in record:
            np.testing.assert_allclose(ours.metrics[key], theirs.metrics[key], rtol=0, atol=1e-5)
    may_end = env_id != "HalfCheetah-v5" and OPTIONS[env_id].get("terminate_when_unhealthy", True)
    assert (ends > 0) == bool(may_end or (env_id == "Walker2d-v5" and not has_options))
    copies.close()


def test_episodes_are_truncated_as_they_are_registered():
    name = "ShortCheetah-v0"
    gymnasium.register(
        name, entry_point="gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv", max_episode_steps=7
    )
    try:
        native, copies = pair(name, 2, [])
        native.reset(0)
        copies.reset(0)
        for _ in range(20):
            action = np.full((2, 6), 0.3, np.float32)
            ours, theirs = native.step(action), copies.step(action)
            np.testing.assert_array_equal(ours.truncated, theirs.truncated)
            np.testing.assert_allclose(ours.obs, theirs.obs, rtol=0, atol=1e-8)
    finally:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [("Ant-v5", {}), ("HalfCheetah-v5", {"frame_skip": 3}), ("HalfCheetah-v5", {"render_mode": "rgb_array"})],
)
def test_what_a_batch_does_not_know_stays_with_gymnasium(env_id: str, kwargs: dict[str, Any]):
    env = make_vector_env(env_id, 1, env_kwargs=kwargs)
    assert isinstance(env, GymnasiumVectorEnv)
    env.close()


def test_any_number_of_threads_gives_the_same_bits():
    one, two = (make_vector_env("Hopper-v5", 5, env_kwargs={"threads": threads}) for threads in (1, 2))
    np.testing.assert_array_equal(one.reset(0), two.reset(0))
    rng = np.random.default_rng(1)
    for _ in range(60):
        action = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
        np.testing.assert_array_equal(one.step(action).obs, two.step(action).obs)


def test_states_of_another_vectorization_are_refused():
    native, copies = pair("HalfCheetah-v5", 2, [])
    copies.reset(0)
    with pytest.raises(ValueError, match="the state is of another vectorization than HalfCheetah-v5"):
        native.set_state(copies.get_state())
    with pytest.raises(ValueError, match="threads must be a whole number, at least 1, got 0"):
        make_vector_env("HalfCheetah-v5", 2, env_kwargs={"threads": 0})
    copies.close()
