"""Alice and Bob as a PettingZoo environment."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lit_rl.envs.alice_bob import AliceAndBob, AliceAndBobParallel

UP, STAY = 0, 4


@pytest.mark.parametrize("one_hot", [False, True])
def test_pettingzoo(one_hot: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it imports an environment in the old way
        from pettingzoo.test import parallel_api_test, parallel_seed_test

    parallel_api_test(AliceAndBobParallel(one_hot), num_cycles=250)
    parallel_seed_test(lambda: AliceAndBobParallel(one_hot), num_cycles=250)
    env = AliceAndBobParallel(one_hot)
    obs, _ = env.reset(seed=3)
    assert all(env.observation_space(agent).contains(value) for agent, value in obs.items())
    assert env.state_space.contains(env.state())
    native = AliceAndBob(1, one_hot).reset(3)
    np.testing.assert_array_equal(obs["bob"], native["observation"][0, 1])
    np.testing.assert_array_equal(env.state(), native["state"][0])


def test_pettingzoo_goes_on_to_the_next_episode() -> None:
    env, native = AliceAndBobParallel(), AliceAndBob(1)
    env.reset(seed=0)
    native.reset(0)
    step, infos = native.step(np.array([[UP, STAY]])), env.step({"bob": STAY, "alice": UP})[-1]
    for t in range(1, 100):
        *_, truncations, infos = env.step({"bob": STAY, "alice": UP})
        step = native.step(np.array([[UP, STAY]]))
        assert truncations == dict.fromkeys(("alice", "bob"), t == 99)
    assert step.final_obs is not None
    np.testing.assert_array_equal(env.state(), step.final_obs["state"][0])
    assert infos["alice"] == {"battle_won": False, "key0": False, "key1": False, "is_success": False}
    assert env.agents == []
    with pytest.raises(ValueError, match=r"step needs actions of \[\]"):
        env.step({"alice": STAY, "bob": STAY})
    env.reset()
    np.testing.assert_array_equal(env.state(), step.obs["state"][0])
    second = env.state()
    env.reset()  # in the middle of an episode
    assert not np.array_equal(env.state(), second)
    with pytest.raises(ValueError, match=r"step needs actions of \['alice', 'bob'\], got \['alice'\]"):
        env.step({"alice": STAY})
    with pytest.raises(ValueError, match="call reset before state"):
        AliceAndBobParallel().state()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="render_mode must be None, got 'human'"):
        AliceAndBobParallel(render_mode="human")
