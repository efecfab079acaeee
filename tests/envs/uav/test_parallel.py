"""PettingZoo's own tests, and the same numbers as the batch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.parallel import UAVParallelEnv, env, parallel_env

with warnings.catch_warnings():
    warnings.simplefilter(
        "ignore", DeprecationWarning
    )  # it imports a game in a way that it deprecates itself
    from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test


@pytest.mark.parametrize(
    "settings", [{}, {"actions": "discrete"}, {"mobility": "random_waypoint", "sparse": True}]
)
def test_parallel_api_and_seed(settings: dict, capsys: pytest.CaptureFixture) -> None:
    parallel_api_test(parallel_env(num_steps=40, **settings), num_cycles=100)
    parallel_seed_test(lambda: parallel_env(num_steps=40, **settings), num_cycles=50)
    assert "Passed" in capsys.readouterr().out


def test_turns_api(capsys: pytest.CaptureFixture) -> None:
    api_test(env(num_steps=10), num_cycles=30)


def test_same_numbers_as_the_batch() -> None:
    """The second episode agrees too; it goes on with the stream of the first."""
    single, batch = UAVParallelEnv(num_steps=4), UAVNetwork(1, num_steps=4)
    obs, _ = single.reset(seed=5)
    expected = batch.reset(5)
    rng = np.random.default_rng(0)
    for t in range(10):
        if not single.agents:
            obs, _ = single.reset()
        np.testing.assert_array_equal(np.stack([*obs.values()]), expected["observation"][0])
        np.testing.assert_array_equal(single.state(), expected["state"][0])
        action = rng.uniform(-1, 1, (5, 3)).astype(np.float32)
        obs, reward, terminated, truncated, info = single.step(dict(zip(single.agents, action, strict=True)))
        step = batch.step(action[None])
        assert set(reward.values()) == {float(step.reward[0])}
        assert set(truncated.values()) == {bool(step.truncated[0])} == {t in (3, 7)}
        assert set(terminated.values()) == {False}
        assert all(sum(one["reward_info"].values()) == step.reward[0] for one in info.values())
        if step.final_obs is not None:
            np.testing.assert_array_equal(np.stack([*obs.values()]), step.final_obs["observation"][0])
            np.testing.assert_array_equal(single.state(), step.final_obs["state"][0])
        expected = step.obs


def test_leaving_an_episode_begins_another_one() -> None:
    single = UAVParallelEnv()
    first, _ = single.reset(seed=0)
    second, _ = single.reset()
    again, _ = single.reset(seed=0)
    assert (first["uav_0"] != second["uav_0"]).any()
    np.testing.assert_array_equal(first["uav_0"], again["uav_0"])
    other = UAVParallelEnv()
    unseeded, _ = other.reset()
    assert (unseeded["uav_0"] != first["uav_0"]).any()


def test_info_and_spaces() -> None:
    single = UAVParallelEnv(num_uavs=2)
    single.reset(seed=0)
    assert single.observation_space("uav_0") is not single.observation_space("uav_1")
    info: Any = single.step({agent: single.action_space(agent).sample() for agent in single.agents})[4]
    assert info["uav_1"]["coverage_ratio"] == pytest.approx(info["uav_1"]["connected_users"] / 50)
    assert set(info["uav_1"]["reward_info"]) == {
        "coverage",
        "throughput",
        "connectivity",
        "energy",
        "collision",
    }
    assert single.state_space.contains(single.state())
    assert single.render().dtype == np.uint8  # pyright: ignore[reportOptionalMemberAccess]
    assert UAVParallelEnv(render_mode=None).render() is None


def test_messages() -> None:
    single = UAVParallelEnv()
    with pytest.raises(ValueError, match=r"the episode is over; call reset\(\) before step"):
        single.step({})
    single.reset(seed=0)
    with pytest.raises(ValueError, match="needs an action of every agent, missing: uav_3, uav_4"):
        single.step({f"uav_{i}": np.zeros(3) for i in range(3)})
    with pytest.raises(ValueError, match="render_mode = 'human', expected rgb_array, or null"):
        UAVParallelEnv(render_mode="human")


def test_copies_in_the_adapter_are_the_native_batch() -> None:
    """They agree, too, after both were saved in the second episode and continued elsewhere."""
    settings = {"num_steps": 5, "actions": "discrete"}
    options: dict[str, Any] = {"may_leave": False, "team_reward": True, "record": ["coverage_ratio"]}

    def make() -> tuple[Any, Any]:
        copies = ParallelVectorEnv(UAVParallelEnv, 3, env_kwargs=settings, **options)
        return copies, UAVNetwork(3, record=["coverage_ratio"], **settings)

    def play(copies: Any, native: Any) -> None:
        for _ in range(7):
            action = rng.integers(0, 7, (3, 5))
            one, other = copies.step(action), native.step(action)
            for key in ("observation", "state"):
                np.testing.assert_array_equal(one.obs[key], other.obs[key])
                if other.final_obs is not None:
                    np.testing.assert_array_equal(one.final_obs[key], other.final_obs[key])
            np.testing.assert_array_equal(one.reward, other.reward)
            np.testing.assert_array_equal(one.truncated, other.truncated)
            np.testing.assert_array_equal(one.metrics["coverage_ratio"], other.metrics["coverage_ratio"])

    rng = np.random.default_rng(0)
    pair = make()
    assert pair[0].spec.action == pair[1].spec.action
    assert pair[0].spec.agents == pair[1].spec.agents
    assert pair[0].spec.state == pair[1].spec.state
    first = [each.reset(4) for each in pair]
    np.testing.assert_array_equal(first[0]["observation"], first[1]["observation"])
    play(*pair)
    later = make()
    for each, saved in zip(later, pair, strict=True):
        each.reset(77)
        each.set_state(saved.get_state())
    play(*later)
