"""Native batches of MuJoCo's runners against the installed Gymnasium, number by number."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from lit_rl.envs.gymnasium.batches import BATCHES
from lit_rl.envs.gymnasium.runners import Runners
from lit_rl.envs.gymnasium.vector import GymnasiumVectorEnv
from lit_rl.envs.packed import pack
from lit_rl.envs.vector import make_vector_env

IDS = [f"{entry.rpartition(':')[2].removesuffix('Env')}-v5" for entry in BATCHES]


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
    "Ant-v5": {"main_body": "front_left_leg", "contact_force_range": (-0.2, 0.3), "contact_cost_weight": 0.1},
    "Humanoid-v5": {"include_cinert_in_observation": False, "contact_cost_range": (-1.0, 0.01)},
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
        np.testing.assert_array_equal(ours.obs, theirs.obs)
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        np.testing.assert_array_equal(ours.terminated, theirs.terminated)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
        assert (ours.final_obs is None) == (theirs.final_obs is None)
        if ours.final_obs is not None:
            ends += 1
            np.testing.assert_array_equal(ours.final_obs, theirs.final_obs)
        for key in record:
            np.testing.assert_array_equal(ours.metrics[key], theirs.metrics[key])
    may_end = not has_options or OPTIONS[env_id].get("terminate_when_unhealthy", True)
    assert (ends > 0) == (may_end and env_id != "HalfCheetah-v5")
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
            np.testing.assert_array_equal(ours.obs, theirs.obs)
    finally:
        del gymnasium.registry[name]


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Swimmer-v5", {}),
        ("HalfCheetah-v5", {"frame_skip": 3}),
        ("HalfCheetah-v5", {"render_mode": "rgb_array"}),
    ],
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


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("is_native_first", [True, False])
def test_a_run_goes_on_with_the_other_vectorization(env_id: str, is_native_first: bool):
    name = "ShortRunner-v0"
    gymnasium.register(name, entry_point=gymnasium.spec(env_id).entry_point, max_episode_steps=30)
    try:
        native, copies = pair(name, 2, [])
        first, second = (native, copies) if is_native_first else (copies, native)
        actions = (
            np.random.default_rng(2).uniform(-1, 1, (90, 2, *native.spec.action.shape)).astype(np.float32)
        )
        first.reset(3)
        for action in actions[:40]:
            first.step(action)
        second.reset(0)
        second.set_state(first.get_state())
        assert second.get_state().keys() == first.get_state().keys()
        for action in actions[40:]:  # over the ends of episodes, whose successors are drawn
            ours, theirs = first.step(action), second.step(action)
            np.testing.assert_array_equal(ours.obs, theirs.obs)
            np.testing.assert_array_equal(ours.reward, theirs.reward)
            np.testing.assert_array_equal(ours.truncated, theirs.truncated)
        copies.close()
    finally:
        del gymnasium.registry[name]


def test_states_of_the_first_version_load():
    env, same = (make_vector_env("Hopper-v5", 2) for _ in range(2))
    env.reset(4)
    env.step(np.full((2, 3), 0.5, np.float32))
    streams = [stream.generator.bit_generator.state for stream in env._streams]  # type: ignore[attr-defined]
    texts = [
        {
            "bit_generator": stream["bit_generator"],
            "state": {key: str(number) for key, number in stream["state"].items()},
            "has_uint32": str(stream["has_uint32"]),
            "uinteger": str(stream["uinteger"]),
        }
        for stream in streams
    ]
    own = pack({"age": np.ones(2, np.int64), "last": np.zeros((2, 11)), "streams": texts})
    same.set_state({"runners": own, "simulations": env._simulations.get_state()})  # type: ignore[attr-defined]
    for _ in range(60):
        action = np.full((2, 3), 0.5, np.float32)
        np.testing.assert_array_equal(env.step(action).obs, same.step(action).obs)


def test_states_of_others_are_refused():
    native, hopper = make_vector_env("HalfCheetah-v5", 2), make_vector_env("Hopper-v5", 2)
    with pytest.raises(
        ValueError, match=r"HalfCheetah-v5: the state is of .*HopperEnv, expected .*TimeLimit"
    ):
        native.set_state(hopper.get_state())
    with pytest.raises(ValueError, match="the state is of num_envs=2, there are num_envs=3"):
        make_vector_env("HalfCheetah-v5", 3).set_state(native.get_state())
    with pytest.raises(ValueError, match="the state is of another vectorization than copies"):
        native.set_state({"envs": {"num_envs": 2}})
    with pytest.raises(ValueError, match="threads = 0, expected 1 <= threads"):
        make_vector_env("HalfCheetah-v5", 2, env_kwargs={"threads": 0})
