from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.random_state import get_rng_state, set_rng_state
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.vector import Autoreset, make_vector_env
from lit_rl.nested import leaves
from lit_rl.types import Collector, Decision, Policy, Rollout
from tests.toys import Broken, Episodes57, MatchingPair, Mixed


def uniform(
    env: Any, num_envs: int = 3, seed: int = 0, **kwargs: Any
) -> tuple[InlineCollector, UniformPolicy]:
    envs = make_vector_env(env, num_envs, **kwargs)
    return InlineCollector(envs, seed), UniformPolicy(envs.spec)


def test_it_is_a_collector_and_its_policy_a_policy():
    collector, policy = uniform(Episodes57)
    assert isinstance(collector, Collector)
    assert isinstance(policy, Policy)


def test_a_rollout_of_one_environment_by_hand():
    """Episode 0: 5 steps, truncated. Episode 1: 7 steps, terminated. Observations are [episode, t, .] / 8."""
    collector, policy = uniform(Episodes57, 1)
    rollout = collector.collect(policy, 13, policy_version=4)
    obs = (rollout["obs"][:, 0, :2] * 8).tolist()
    assert obs == [[0, t] for t in range(5)] + [[1, t] for t in range(7)] + [[2, 0], [2, 1]]
    assert rollout["reward"][:, 0].tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14, 15, 16, 20]
    assert rollout["truncated"][:, 0].nonzero().tolist() == [[4]]
    assert rollout["terminated"][:, 0].nonzero().tolist() == [[11]]
    assert rollout["reset"][:, 0].nonzero().flatten().tolist() == [0, 5, 12]
    assert rollout["final_index"].tolist() == [4, 11]
    assert (rollout["final_obs"][:, :2] * 8).tolist() == [[0, 5], [1, 7]]
    assert rollout["valid"] is None
    assert rollout["policy_version"] == 4
    assert rollout["collect_s"] > 0
    assert rollout["action"].shape == (13, 1)
    assert rollout["episodes"]["episode_return"].tolist() == [10, 91]
    assert rollout["episodes"]["episode_length"].tolist() == [5, 7]
    assert rollout["episodes"]["env_index"].tolist() == [0, 0]


def test_dtypes_and_shapes():
    collector, policy = uniform(partial(Mixed, mask=True), 2)
    rollout = collector.collect(policy, 7, 0)
    shapes = {tuple(leaf.shape[:2]) for leaf in leaves(rollout["obs"])}
    assert shapes == {(8, 2)}
    assert rollout["obs"]["inner"]["grid"].dtype == torch.uint8
    assert rollout["obs"]["goal"].dtype == rollout["obs"]["action_mask"].dtype == torch.int64
    assert rollout["reward"].dtype == rollout["obs"]["real"].dtype == torch.float32
    assert rollout["final_obs"]["real"].shape == (2, 3)  # both ended after 6 steps
    short = collector.collect(policy, 1, 0)
    assert short["final_obs"]["real"].shape == (0, 3)
    assert short["final_index"].shape == short["episodes"]["env_index"].shape == (0,)


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_episodes_across_borders_of_rollouts(mode: Autoreset):
    """Every complete episode is reported once; returns by the formula of the environment."""
    collector, policy = uniform(Episodes57, autoreset=mode)
    found: dict[int, list[tuple[float, int]]] = {0: [], 1: [], 2: []}
    for num_steps in (1, 3, 4, 1, 20, 2, 5, 11):
        episodes = collector.collect(policy, num_steps, 0)["episodes"]
        pairs = zip(episodes["episode_return"].tolist(), episodes["episode_length"].tolist(), strict=True)
        for n, pair in zip(episodes["env_index"].tolist(), pairs, strict=True):
            found[n].append(pair)
    steps_lost = mode == "next_step"
    for n, episodes in found.items():
        expected, step, k = [], 0, n
        while True:
            length = 7 if k % 2 else 5
            step += length
            if step > 47:
                break
            expected.append((length * (length - 1) / 2 + 10 * k * length, length))
            step += steps_lost
            k += 1
        assert episodes == expected


def test_rewards_of_agents_are_averaged():
    collector = InlineCollector(MatchingPair(3), 0)
    rollout = collector.collect(UniformPolicy(collector.env.spec), 12, 0)
    assert rollout["reward"].shape == (12, 3, 2)
    mean = rollout["reward"].mean(-1)
    ends = rollout["truncated"][:, 0].nonzero().flatten().tolist()
    assert ends == [3, 7, 11]
    expected = [mean[start : start + 4, 0].sum().item() for start in (0, 4, 8)]
    episodes = rollout["episodes"]
    assert episodes["episode_return"][episodes["env_index"] == 0].tolist() == pytest.approx(expected)


def test_metrics_are_recorded():
    collector, policy = uniform(Episodes57, 2, record=["height"])
    rollout = collector.collect(policy, 6, 0)
    assert rollout["metrics"]["height"][:, 0].tolist() == [1, 2, 3, 4, 5, 1]


def test_rollouts_do_not_share_memory():
    collector, policy = uniform(Episodes57)
    first = collector.collect(policy, 5, 0)
    copy = {key: first[key].clone() for key in ("obs", "reward", "reset")}  # type: ignore[literal-required]
    collector.collect(policy, 5, 0)
    assert all(torch.equal(first[key], value) for key, value in copy.items())  # type: ignore[literal-required]


def test_a_policy_is_asked_without_gradients():
    class Differentiable(UniformPolicy):
        def act(self, *args: Any, **kwargs: Any) -> Decision:
            decision = super().act(*args, **kwargs)
            value = torch.ones(3, requires_grad=True) * 2
            return decision._replace(extras={"value": value})

    collector, _ = uniform(Episodes57)
    rollout = collector.collect(Differentiable(collector.env.spec), 4, 0)
    assert not rollout["extras"]["value"].requires_grad


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("where", "at", "message"),
    [
        ("reward", 2, r"reward_TN is {} at step 2, environment 0"),
        ("obs", 2, r"obs_TNO is {} at step 3, environment 0"),  # the observation after step 2
        ("obs", 4, r"final_obs_TNO is {} at step 4, environment 0"),  # the last one of the episode
    ],
)
def test_values_that_are_not_finite_are_named(where: str, at: int, message: str, value: float):
    collector, policy = uniform(partial(Broken, at, value, where), 1)
    with pytest.raises(FloatingPointError, match="the environment returned: " + message.format(value)):
        collector.collect(policy, 12, 0)


def test_a_leaf_of_a_dict_that_is_not_finite_is_named():
    class BrokenMixed(Mixed):
        def _obs(self) -> dict[str, Any]:
            obs = super()._obs()
            obs["real"][1] = np.nan if self.t == 3 else 0
            return obs

    collector, policy = uniform(BrokenMixed)
    with pytest.raises(FloatingPointError, match="obs/real_TNO is nan at step 3, environment 0"):
        collector.collect(policy, 5, 0)


def test_large_values_that_overflow_in_sum_are_fine():
    collector, policy = uniform(partial(Broken, 2, 3e38))
    assert collector.collect(policy, 12, 0)["reward"].max() == 3e38


# State


def equal(a: Rollout, b: Rollout) -> bool:
    pairs = [
        (a[key], b[key])
        for key in ("obs", "final_obs", "action", "reward", "reset", "terminated", "truncated")
    ]  # type: ignore[literal-required]
    pairs += [
        (a["episodes"][key], b["episodes"][key]) for key in ("episode_return", "episode_length", "env_index")
    ]  # type: ignore[literal-required]
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize("vectorization", ["auto", "sync"])
def test_a_saved_collector_continues_bit_for_bit(env: str, vectorization: Any, tmp_path: Any):
    collector, policy = uniform(env, vectorization=vectorization)
    collector.collect(policy, 37, 0)
    torch.save({"collector": collector.get_state(), "rng": get_rng_state()}, tmp_path / "state.pt")
    expected = [collector.collect(policy, 150, 0) for _ in range(2)]

    torch.manual_seed(99)
    fresh, policy = uniform(env, vectorization=vectorization)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert fresh.set_state(state["collector"]) is True
    set_rng_state(state["rng"])
    for rollout in expected:
        assert equal(fresh.collect(policy, 150, 0), rollout)


def test_a_state_is_not_touched_by_what_comes_after():
    collector, policy = uniform("CartPole-v1", 2)
    collector.collect(policy, 10, 0)
    state, random = collector.get_state(), get_rng_state()
    expected = collector.collect(policy, 50, 0)
    for _ in range(2):
        assert collector.set_state(state)
        set_rng_state(random)
        assert equal(collector.collect(policy, 50, 0), expected)


def test_environments_that_cannot_save_start_other_episodes():
    """They are not those of the first run again: the seed moves on with each restart."""

    class Unknown(Mixed):
        pass

    collector, policy = uniform(Unknown)
    first = collector.collect(policy, 9, 0)
    fresh, _ = uniform(Unknown)
    assert fresh.set_state(collector.get_state()) is False
    second = fresh.collect(policy, 9, 0)
    assert second["reset"][0].all()
    assert second["episodes"]["episode_length"].tolist() == [6, 6, 6]
    assert not torch.equal(second["obs"]["real"], first["obs"]["real"])
    again, _ = uniform(Unknown)
    assert again.set_state(fresh.get_state()) is False
    assert not torch.equal(again.collect(policy, 9, 0)["obs"]["real"], second["obs"]["real"])


def test_a_collector_that_never_played_has_nothing_to_restore():
    collector, policy = uniform("CartPole-v1")
    fresh, _ = uniform("CartPole-v1")
    assert fresh.set_state(collector.get_state()) is True
    torch.manual_seed(0)
    expected = collector.collect(policy, 5, 0)
    torch.manual_seed(0)
    assert equal(fresh.collect(policy, 5, 0), expected)


def test_environment_i_starts_with_seed_plus_i():
    shifted, policy = uniform("Pendulum-v1", 2, seed=1)
    whole, _ = uniform("Pendulum-v1", 3, seed=0)
    assert torch.equal(shifted.collect(policy, 1, 0)["obs"][0], whole.collect(policy, 1, 0)["obs"][0, 1:])


def test_close_twice():
    collector, _ = uniform(Episodes57)
    collector.close()
    collector.close()


def test_episodes_that_somebody_else_began_are_new_ones():
    """The running episodes are left: they are not counted, and the policy is told of the new ones."""
    collector = InlineCollector(make_vector_env("CartPole-v1", 2, check=False), 0)
    policy = UniformPolicy(collector.env.spec)
    begun: list[Any] = []
    collector.env.begin = lambda obs: begun.append(obs) or obs  # type: ignore[attr-defined]
    collector.restart_with("begin", np.ones((2, 4), np.float32))  # before the start there is nothing to leave
    first = collector.collect(policy, 3, 0)
    assert not (first["obs"][0] == 1).any()
    obs = collector.env.reset(7)
    collector.restart_with("begin", obs)
    assert len(begun) == 2
    second = collector.collect(policy, 200, 0)
    np.testing.assert_array_equal(second["obs"][0].numpy(), obs)
    assert second["reset"][0].all()
    ended = second["episodes"]["episode_length"].tolist()
    ends = torch.nonzero(second["terminated"])
    firsts = [int(ends[ends[:, 1] == env][0, 0]) + 1 for env in (0, 1)]
    assert [ended[second["episodes"]["env_index"].tolist().index(env)] for env in (0, 1)] == firsts


class Remembering(MatchingPair):
    """A batch of a user that gives its state as an object."""

    def get_state(self) -> Any:
        return {"envs": [self.spec]}


def test_a_batch_whose_state_is_an_object_begins_new_episodes(caplog: pytest.LogCaptureFixture):
    envs = Remembering(2)
    collector, policy = InlineCollector(envs, 0), UniformPolicy(envs.spec)
    collector.collect(policy, 3, 0)
    state = collector.get_state()
    assert state["env"] is None
    assert collector.get_state()["env"] is None
    assert caplog.messages == [
        "Remembering cannot save its state, so a resumed run begins new episodes: a state may hold tensors, "
        "numbers, strings, lists and dicts; got lit_rl.types.spec.EnvSpec"
    ]
    assert not InlineCollector(Remembering(2), 0).set_state(state)
