"""The adapter against numbers by hand, single copies and the native batch of Alice and Bob."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import ClipReward
from pettingzoo.utils.deprecated_module import DeprecatedEnv

from lit_rl import PPO, RolloutDataModule
from lit_rl.algos.multi_agent import Views
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.alice_bob import AliceAndBob
from lit_rl.envs.alice_bob.parallel import AliceAndBobParallel
from lit_rl.envs.class_path import factory
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested
from lit_rl.returns import gae
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, VectorEnv
from tests.parallel_toys import Leavers, Movers
from tests.toys import make_trainer
from tests.worker_toys import Saves

STAY = {"stay": True, "has_state": False}


def number(seed: int, episode: int = 0) -> float:
    """What ``Leavers`` draws for an episode."""
    return float(np.random.default_rng(seed).integers(1000, size=episode + 1)[-1])


def test_spec() -> None:
    env = ParallelVectorEnv(Leavers, 2)
    assert isinstance(env, VectorEnv)
    observation = {"observation": LeafSpec([2]), "alive": LeafSpec([])}
    action = ActionSpec("discrete", categories=[3])
    assert env.spec == EnvSpec("leavers_v0", observation, action, ["a", "b", "c"], 2)
    masked = ParallelVectorEnv(Leavers, 1, {"masks": "info", "has_state": False}, may_leave=False).spec
    assert masked.observation == {
        "observation": LeafSpec([2]),
        "action_mask": LeafSpec([3], "int8", [2, 2, 2]),
    }
    assert masked.has_action_mask
    assert masked.state == 0
    plain = ParallelVectorEnv(Leavers, 1, STAY, may_leave=False)
    assert plain.spec.observation == LeafSpec([2])
    assert plain.reset(0).shape == (1, 3, 2)
    with_state = ParallelVectorEnv(Leavers, 1, {"stay": True}, may_leave=False)
    assert with_state.spec.observation == {"observation": LeafSpec([2])}
    assert list(with_state.reset(0)) == ["observation", "state"]


def test_one_episode_by_hand() -> None:
    env = ParallelVectorEnv(Leavers, 1)
    obs = env.reset(5)
    first, second = number(5), number(5, 1)
    assert obs["observation"].tolist() == [[[first, 0]] * 3]
    assert obs["state"].tolist() == [[0, 3]]
    assert obs["alive"].tolist() == [[1, 1, 1]]
    action = np.array([[0, 1, 2]])
    steps = [env.step(action) for _ in range(4)]
    assert [step.reward.tolist() for step in steps] == [
        [[0, 11, 22]],
        [[1, 12, 23]],
        [[0, 13, 24]],
        [[0, 0, 25]],
    ]
    assert [step.obs["alive"].tolist() for step in steps[:3]] == [[[1, 1, 1]], [[0, 1, 1]], [[0, 0, 1]]]
    assert steps[1].obs["observation"].tolist() == [[[0, 0], [first, 2], [first, 2]]]
    assert steps[2].obs["state"].tolist() == [[3, 1]]
    assert [step.final_obs is None for step in steps] == [True, True, True, False]
    last: Any = steps[3].final_obs
    assert last["observation"].tolist() == [[[0, 0], [0, 0], [first, 4]]]
    assert last["alive"].tolist() == [[0, 0, 1]]
    assert last["state"].tolist() == [[4, 0]]
    assert steps[3].obs["observation"].tolist() == [[[second, 0]] * 3]
    assert steps[3].obs["alive"].tolist() == [[1, 1, 1]]
    assert [step.terminated.tolist() for step in steps] == [[False], [False], [False], [True]]
    assert not any(step.truncated.any() for step in steps)
    got: Any = env.envs[0]
    assert got.got == [
        {"a": 0, "b": 1, "c": 2},
        {"a": 0, "b": 1, "c": 2},
        {"b": 1, "c": 2},
        {"c": 2},
    ]
    for leaf in (*steps[3].obs.values(), steps[3].reward):
        assert leaf.dtype == np.float32


@pytest.mark.parametrize(
    ("ends", "stay", "terminated"),
    [("ttu", False, False), ("uut", False, True), ("ttu", True, False), ("ttt", True, True)],
)
def test_the_last_agents_decide_how_the_episode_ended(ends: str, stay: bool, terminated: bool) -> None:
    env = ParallelVectorEnv(Leavers, 1, {"ends": ends, "stay": stay})
    env.reset(0)
    step = [env.step(np.zeros((1, 3), np.int64)) for _ in range(4)][-1]
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([terminated], [not terminated])


def test_an_agent_that_joins_late() -> None:
    class Joins(Leavers):
        def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
            super().reset(seed)
            self.agents = ["a", "b"]
            return self._see(self.agents)

        def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
            answer = super().step(actions)
            if self.t == 1:
                self.agents.append("c")
                answer[0]["c"], answer[4]["c"] = answer[0]["a"], {}
            return answer

    env = ParallelVectorEnv(Joins, 1)
    assert env.reset(5)["alive"].tolist() == [[1, 1, 0]]
    first, second = (env.step(np.ones((1, 3), np.int64)) for _ in range(2))
    assert (first.reward.tolist(), second.reward.tolist()) == ([[1, 11, 0]], [[2, 12, 22]])
    assert first.obs["alive"].tolist() == [[1, 1, 1]]
    assert first.obs["observation"][0, 2].tolist() == [number(5), 1]
    with pytest.raises(ValueError, match=r"leavers_v0: \['c'\] left the episode early"):
        ParallelVectorEnv(Joins, 1, may_leave=False).reset(0)


def test_observations_and_actions_that_do_not_count_from_zero() -> None:
    class Fives(Leavers):
        def __init__(self) -> None:
            super().__init__(stay=True, has_state=False)
            self.observation_spaces = dict.fromkeys(self.possible_agents, spaces.Discrete(9, start=5))
            self.action_spaces = {agent: spaces.Discrete(3, start=5) for agent in self.possible_agents}

        def _see(self, agents: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
            return {agent: np.int64(5 + self.t) for agent in agents}, {agent: {} for agent in agents}

    env = ParallelVectorEnv(Fives, 2, may_leave=False)
    assert env.spec.observation == LeafSpec([], "int64", [9])
    assert env.reset(0).tolist() == [[0, 0, 0]] * 2
    step = env.step(np.array([[0, 1, 2]] * 2))
    assert step.reward.tolist() == [[5, 16, 27]] * 2
    assert step.obs.tolist() == [[1, 1, 1]] * 2
    assert step.obs.dtype == np.int64


def test_team_reward_is_the_mean_over_agents_that_acted() -> None:
    env = ParallelVectorEnv(Leavers, 2, team_reward=True)
    env.reset(0)
    action = np.zeros((2, 3), np.int64)
    rewards = [env.step(action).reward.tolist() for _ in range(4)]
    assert rewards == [[10, 10], [11, 11], [17, 17], [23, 23]]  # last: t = 3, agent c alone


def test_environment_i_does_not_depend_on_the_others() -> None:
    many, one = ParallelVectorEnv(Leavers, 3), ParallelVectorEnv(Leavers, 1)
    np.testing.assert_array_equal(many.reset(7)["observation"][2], one.reset(9)["observation"][0])
    assert many.reset(7)["observation"][:, 0, 0].tolist() == [number(7), number(8), number(9)]
    for t in range(9):
        action = np.full((3, 3), t % 3)
        step, alone = many.step(action), one.step(action[:1])
        np.testing.assert_array_equal(step.obs["observation"][2], alone.obs["observation"][0])
    last: Any = many.step(np.zeros((3, 3), np.int64)).obs
    assert last["observation"][:, 2, 0].tolist() == [number(seed, 2) for seed in (7, 8, 9)]


@pytest.mark.parametrize("masks", ["observation", "info"])
def test_action_masks(masks: str) -> None:
    env = ParallelVectorEnv(Leavers, 2, {"masks": masks})
    assert env.reset(0)["action_mask"].tolist() == [[[0, 1, 1]] * 3] * 2
    assert env.reset(0)["action_mask"].dtype == np.int8
    steps = [env.step(np.full((2, 3), (t + 1) % 3)) for t in range(4)]
    everything = [1, 1, 1]  # of agents that left
    assert steps[1].obs["action_mask"][0].tolist() == [everything, [1, 1, 0], [1, 1, 0]]
    last: Any = steps[3].final_obs
    assert last["action_mask"][0].tolist() == [everything] * 2 + [
        [1, 0, 1] if masks == "observation" else everything
    ]
    assert steps[3].obs["action_mask"][0].tolist() == [[0, 1, 1]] * 3


def test_a_mask_that_is_missing_in_the_middle() -> None:
    class Forgets(Leavers):
        def _see(self, agents: list[str]) -> Any:
            obs, infos = super()._see(agents)
            return obs, infos if self.t != 2 else {agent: {} for agent in agents}

    env = ParallelVectorEnv(Forgets, 1, {"masks": "info"}, check=False)
    env.reset(0)
    env.step(np.ones((1, 3), np.int64))
    with pytest.raises(ValueError, match="info of agent b has no 'action_mask' in this step"):
        env.step(np.ones((1, 3), np.int64))


def test_boxes_are_clipped_and_the_policy_keeps_its_actions() -> None:
    env = ParallelVectorEnv(Movers, 1, {"lengths": (2, 2)}, may_leave=False)
    assert env.spec.action == ActionSpec("box", [1], low=[-1.0], high=[2.0])
    env.reset(0)
    action = np.array([[[5.0], [-5.0]]], np.float32)
    step = env.step(action)
    assert step.obs.tolist() == [[[2, -1], [-1, 2]]]
    assert step.reward.tolist() == [[2, -1]]
    assert action.tolist() == [[[5], [-5]]]
    inside = np.full((1, 2, 1), 0.5, np.float32)
    env.step(inside)
    assert inside.tolist() == [[[0.5], [0.5]]]
    last = env.step(inside)
    assert last.truncated.tolist() == [True]
    assert last.final_obs is not None
    assert last.final_obs.tolist() == [[[3, 0], [0, 3]]]


def test_shorter_observations_are_padded_on_request() -> None:
    env = ParallelVectorEnv(Movers, 1, pad=True, may_leave=False)
    assert env.spec.observation == LeafSpec([2])
    env.reset(0)
    assert env.step(np.array([[[1.0], [2.0]]], np.float32)).obs.tolist() == [[[1, 2], [2, 0]]]
    expected = (
        r"Movers: observation of agent right is float32 of shape \(1,\), that of agent left is float32 of "
        r"shape \(2,\); all agents must share one shape: pad=True fills shorter ones with zeros"
    )
    with pytest.raises(ValueError, match=expected):
        ParallelVectorEnv(Movers, 1)


def test_a_broken_promise_to_stay() -> None:
    env = ParallelVectorEnv(Leavers, 1, may_leave=False)
    env.reset(0)
    env.step(np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match=r"leavers_v0: \['a'\] left the episode early; set may_leave=True"):
        env.step(np.zeros((1, 3), np.int64))


def test_recorded_values_are_means_over_the_agents_that_report() -> None:
    env = ParallelVectorEnv(Leavers, 2, record=["height"])
    env.reset(0)
    steps = [env.step(np.zeros((2, 3), np.int64)) for _ in range(4)]
    assert [step.metrics["height"].tolist() for step in steps] == [[10, 10], [10, 10], [15, 15], [20, 20]]
    assert steps[0].metrics["height"].dtype == np.float32


def test_a_value_that_is_never_reported() -> None:
    env = ParallelVectorEnv(Leavers, 1, record=["depth"])
    env.reset(0)
    for _ in range(3):
        assert np.isnan(env.step(np.zeros((1, 3), np.int64)).metrics["depth"]).all()
    with pytest.warns(UserWarning, match=r"leavers_v0: record=\['depth'\] was not in the info of any agent"):
        env.step(np.zeros((1, 3), np.int64))
    words = ParallelVectorEnv(Leavers, 1, {"masks": "info"}, record=["action_mask"])
    words.reset(0)
    with pytest.raises(ValueError, match=r"record='action_mask' must be one number per agent, got array\(\["):
        words.step(np.ones((1, 3), np.int64))


def test_copies_of_alice_and_bob_equal_the_native_batch() -> None:
    record = ["battle_won", "key0"]
    copies = ParallelVectorEnv(AliceAndBobParallel, 3, team_reward=True, may_leave=False, record=record)
    native = AliceAndBob(3, record=record)
    assert (copies.spec.observation, copies.spec.action) == (native.spec.observation, native.spec.action)
    assert (copies.spec.agents, copies.spec.state) == (native.spec.agents, native.spec.state)
    rng = np.random.default_rng(0)
    both = copies.reset(3), native.reset(3)
    for _ in range(230):
        for key in ("observation", "state"):
            np.testing.assert_array_equal(both[0][key], both[1][key])
        action = rng.integers(5, size=(3, 2))
        ours, theirs = copies.step(action), native.step(action)
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        np.testing.assert_array_equal(ours.truncated, theirs.truncated)
        np.testing.assert_array_equal(ours.metrics["key0"], theirs.metrics["key0"])
        assert (ours.final_obs is None) == (theirs.final_obs is None)
        if ours.final_obs is not None and theirs.final_obs is not None:
            np.testing.assert_array_equal(ours.final_obs["state"], theirs.final_obs["state"])
        both = ours.obs, theirs.obs


def test_environments_that_save_themselves_continue_bit_for_bit(tmp_path: Any) -> None:
    env, other = (ParallelVectorEnv(AliceAndBobParallel, 2) for _ in range(2))
    assert env.unknown_class is None
    rng = np.random.default_rng(0)
    actions = rng.integers(5, size=(250, 2, 2))
    env.reset(1)
    for action in actions[:150]:
        env.step(action)
    torch.save(env.get_state(), tmp_path / "state.pt")
    other.reset(99)
    other.set_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for action in actions[150:]:
        a, b = env.step(action), other.step(action)
        np.testing.assert_array_equal(a.obs["state"], b.obs["state"])
        np.testing.assert_array_equal(a.truncated, b.truncated)
    with pytest.raises(ValueError, match="the state is of num_envs=2, there are num_envs=1"):
        ParallelVectorEnv(AliceAndBobParallel, 1).set_state(env.get_state())
    unknown = ParallelVectorEnv(Leavers, 1)
    assert unknown.get_state() is None
    assert unknown.unknown_class is not None
    assert unknown.unknown_class.endswith("Leavers")


class Remembering(Leavers):
    """Saves what ``kept`` is, and what it was made of."""

    kept: Any = None

    def get_state(self) -> Any:
        return {"kept": self.kept}

    def set_state(self, state: Any) -> None:
        self.kept = state["kept"]


def test_a_state_that_no_checkpoint_can_hold_is_not_saved(caplog: pytest.LogCaptureFixture) -> None:
    """It warns once and goes on; arrays and tuples come back as they were."""
    env, other = ParallelVectorEnv(Remembering, 1), ParallelVectorEnv(Remembering, 1)
    first: Any = env.envs[0]
    first.kept = (np.arange(3), 2)
    other.set_state(env.get_state() or {})
    assert other.envs[0].kept[0].tolist() == [0, 1, 2]  # type: ignore[attr-defined]
    first.kept = [object()]
    assert env.unknown_class is None
    assert env.get_state() is env.get_state() is None
    assert env.unknown_class == f"{Remembering.__module__}.Remembering"
    (said,) = caplog.messages
    assert said == (
        f"{Remembering.__module__}.Remembering cannot save its state, so a resumed run begins new episodes: "
        "a state may hold arrays, numbers, strings, lists and dicts; got object"
    )


def test_each_agent_has_its_own_end_in_the_step_that_ends_the_episode() -> None:
    """a and b terminate while c is truncated: only c has a value after it, by the last observation."""
    env = ParallelVectorEnv(Leavers, 1, {"ends": "ttu", "stay": True})
    rollout = InlineCollector(env, 0).collect(UniformPolicy(env.spec), 4, 0)
    assert rollout["final_obs"]["alive"].tolist() == [[0, 0, 1]]
    rows = Views(env.spec).rows(rollout)
    assert rows.terminated.tolist() == [[[False] * 3]] * 3 + [[[True, True, False]]]
    assert rows.done.tolist() == [[[False] * 3]] * 3 + [[[True] * 3]]
    value, gamma = torch.full((4, 1, 3), 2.0), 0.5
    advantage = gae(rows.reward * 0 + 1, value, value, rows.terminated, rows.done, gamma, 1.0)
    # at the end 1 - 2, and 1 + 0.5 * 2 - 2 for c; before it (1 + 0.5 * 2 - 2) + 0.5 * what follows
    assert advantage[:, 0].tolist() == [[-0.125, -0.125, 0], [-0.25, -0.25, 0], [-0.5, -0.5, 0], [-1, -1, 0]]
    promised = ParallelVectorEnv(Leavers, 1, {"ends": "ttu", "stay": True}, may_leave=False)
    promised.reset(0)
    for _ in range(3):
        promised.step(np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match=r"\['a', 'b'\] terminated as others were truncated; set may"):
        promised.step(np.zeros((1, 3), np.int64))


@pytest.mark.parametrize("masks", ["", "observation", "info"])
def test_an_agent_whose_time_is_up_has_a_value_while_others_play_on(masks: str) -> None:
    """a is truncated after 2 steps, b and c terminate after 3 and 4."""
    env = ParallelVectorEnv(Leavers, 1, {"ends": "utt", "masks": masks})
    rollout = InlineCollector(env, 0).collect(UniformPolicy(env.spec), 4, 0)
    assert rollout["obs"]["alive"][:, 0].tolist() == [[1, 1, 1], [1, 1, 1], [-1, 1, 1], [0, 0, 1], [1, 1, 1]]
    assert rollout["obs"]["observation"][2:4, 0, 0].tolist() == [
        [number(0), 2],
        [0, 0],
    ]  # seen last, and none
    views = Views(env.spec)
    rows = views.rows(rollout)
    assert rows.acted is not None
    assert rows.acted[:, 0].tolist() == [[True] * 3, [True] * 3, [False, True, True], [False, False, True]]
    assert rows.done[:, 0].tolist() == [[False] * 3, [True, False, False], [False, True, False], [True] * 3]
    assert rows.terminated[:2, 0].tolist() == [[False] * 3, [False] * 3]
    assert rows.terminated[2, 0].tolist() == [False, True, False]
    value, gamma = torch.full((4, 1, 3), 2.0), 0.5
    acted = rows.acted
    advantage = gae(rows.reward * 0 + 1, value, value, rows.terminated, rows.done, gamma, 1.0, acted)
    # 1 + 0.5 * 2 - 2 = 0 for a, whose last observation has a value; 1 - 2 = -1 at the ends of b and c
    assert advantage[:, 0].tolist() == [[0, -0.25, -0.125], [0, -0.5, -0.25], [0, -1, -0.5], [0, 0, -1]]


def test_a_random_policy_collects() -> None:
    env = ParallelVectorEnv(Leavers, 2)
    collector = InlineCollector(env, 0)
    rollout = collector.collect(UniformPolicy(env.spec), 9, 0)
    assert rollout["obs"]["alive"].shape == (10, 2, 3)
    assert rollout["reward"].shape == (9, 2, 3)
    assert rollout["episodes"]["episode_length"].tolist() == [4, 4, 4, 4]


def make_leavers(**kwargs: Any) -> Leavers:
    return Leavers(**kwargs)


def test_make_vector_env_recognises_what_it_makes() -> None:
    for source in (Leavers, make_leavers, partial(Leavers, stay=True)):
        env = make_vector_env(source, 2, env_kwargs={"has_state": False}, record=["height"], check=True)
        assert isinstance(env, ParallelVectorEnv)
        assert (env.num_envs, env.spec.state) == (2, 0)
        env.reset(0)
        assert env.step(np.zeros((2, 3), np.int64)).metrics["height"].tolist() == [10, 10]
    for wrong in ({"wrappers": [ClipReward]}, {"autoreset": "next_step"}):
        with pytest.raises(
            ValueError, match="env='Leavers' makes a PettingZoo ParallelEnv: leave out"
        ) as error:
            make_vector_env(Leavers, 2, **wrong)
        assert "\n" not in str(error.value)
    filmed = make_vector_env(Leavers, 1, render=True)
    filmed.reset(0)
    filmed.step(np.zeros((1, 3), np.int64))
    assert filmed.frame().shape == (4, 5, 3)
    assert filmed.frame().max() == 1
    with pytest.raises(ValueError, match=r"frame\(\) needs environments made with render=True"):
        ParallelVectorEnv(Leavers, 1).frame()


def test_an_environment_that_takes_turns() -> None:
    from pettingzoo.utils.conversions import parallel_to_aec

    with pytest.raises(TypeError, match=r"got .*; give the function that makes a PettingZoo ParallelEnv"):
        make_vector_env(lambda: parallel_to_aec(Leavers()), 1)


def test_the_adapter_itself_in_a_configuration() -> None:
    path = "lit_rl.envs.alice_bob.AliceAndBobParallel"
    for source in (path, {"class_path": path, "init_args": {"one_hot": True}}):
        env: Any = make_vector_env(partial(ParallelVectorEnv, source, team_reward=True), 2, record=["key0"])
        assert env.spec.name == "alice_and_bob_v0"
        assert env.team_reward
    assert env.spec.state == 130


def test_wrong_arguments() -> None:
    with pytest.raises(TypeError, match=r"env_fn must make a pettingzoo.ParallelEnv, got builtins.dict"):
        ParallelVectorEnv(dict, 1)
    with pytest.raises(ValueError, match="num_envs = 0, expected 1 <= num_envs"):
        ParallelVectorEnv(Leavers, 0)
    with pytest.raises(ValueError, match=r"env_fn.class_path 'nowhere.Env' cannot be imported"):
        ParallelVectorEnv("nowhere.Env", 1)
    env = ParallelVectorEnv(Leavers, 2)
    env.reset(0)
    with pytest.raises(ValueError, match=r"leavers_v0: action must have shape \(2, 3\) .* got \(2,\)"):
        env.step(np.zeros(2, np.int64))


def test_copies_are_closed_once() -> None:
    env = ParallelVectorEnv(Leavers, 2)
    copies: list[Any] = list(env.envs)
    env.close()
    env.close()
    assert [copy.closed for copy in copies] == [1, 1]
    made: list[Any] = []

    def make() -> Movers:
        made.append(Movers())
        made[-1].closed = 0
        made[-1].close = lambda: setattr(made[-1], "closed", 1)
        return made[-1]

    with pytest.raises(ValueError, match="all agents must share one shape"):
        ParallelVectorEnv(make, 1, check=False)
    assert [env.closed for env in made] == [1]


def test_simple_spread_of_mpe2() -> None:
    pytest.importorskip("mpe2")
    env: Any = make_vector_env(partial(ParallelVectorEnv, "mpe2.simple_spread_v3.parallel_env"), 2)
    assert env.spec.agents == ["agent_0", "agent_1", "agent_2"]
    assert env.spec.observation["observation"] == LeafSpec([18])
    assert (env.spec.state, env.spec.action.categories) == (54, [5])
    obs = env.reset(0)
    np.testing.assert_array_equal(obs["state"], obs["observation"].reshape(2, 54))
    steps = [env.step(np.zeros((2, 3), np.int64)) for _ in range(25)]
    assert [bool(step.truncated.all()) for step in steps] == [False] * 24 + [True]
    final = steps[-1].final_obs
    np.testing.assert_array_equal(final["state"], final["observation"].reshape(2, 54))
    assert final["alive"].tolist() == [[1, 1, 1]] * 2


class NoState(Leavers):
    """Its ``state()`` fails, as that of multiwalker_v9 does at the end of an episode."""

    def state(self) -> np.ndarray:
        raise ZeroDivisionError("nobody asked")


def test_the_state_is_asked_for_only_where_somebody_looks_at_it() -> None:
    for settings in ({}, {"vectorization": "sync", "check": True}):
        env = make_vector_env(NoState, 2, global_state=False, **settings)
        assert env.spec.state == 0
        assert env.reset(0).keys() == {"observation", "alive"}
        steps = [env.step(np.zeros((2, 3), np.int64)) for _ in range(5)]
        assert steps[3].final_obs is not None
        assert steps[3].final_obs.keys() == {"observation", "alive"}
    with pytest.raises(ZeroDivisionError, match="nobody asked"):
        make_vector_env(NoState, 2)


class ImageState(Leavers):
    """Its state is an image."""

    def state(self) -> np.ndarray:
        return np.full((2, 3), 200 + self.t, np.uint8)


def test_a_state_that_is_an_image_stays_one() -> None:
    env = make_vector_env(ImageState, 2, check=True)
    assert (env.spec.state, env.spec.state_dtype) == (6, "uint8")
    assert EnvSpec.from_dict(env.spec.to_dict()).state_dtype == "uint8"
    rollout: Any = InlineCollector(env, 0).collect(UniformPolicy(env.spec), 3, 0)
    assert rollout["obs"]["state"].dtype == torch.uint8
    assert rollout["obs"]["state"][:, 0, 0].tolist() == [200, 201, 202, 203]
    seen: Any = Views(env.spec, central_critic=True)(map_nested(lambda leaf: leaf[0], rollout["obs"]))
    assert seen["critic"].dtype == torch.float32
    assert seen["critic"][0].tolist() == [200] * 6


def test_a_state_that_grows_is_told() -> None:
    class Grows(Leavers):
        def state(self) -> np.ndarray:
            return np.zeros(2 + (self.t > 1))

    env = ParallelVectorEnv(Grows, 1, check=False)
    env.reset(0)
    env.step(np.zeros((1, 3), np.int64))
    with pytest.raises(ValueError, match=r"leavers_v0: state\(\) has 3 features, before it had 2"):
        env.step(np.zeros((1, 3), np.int64))


@pytest.mark.parametrize(("central_critic", "features"), [(True, 2), (False, 0)])
def test_learners_say_whether_they_look_at_the_state(central_critic: bool, features: int) -> None:
    data = RolloutDataModule(Leavers, num_envs=1, rollout_steps=4, rollouts_per_epoch=1, eval_episodes=1)
    assert data.spec.state == 2  # nobody has asked not to
    data.teardown("fit")
    learner = PPO(central_critic=central_critic, hidden=[8], batch_size=12, update_epochs=1)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(learner, datamodule=data)
    assert learner.spec is not None
    assert learner.spec.state == features


def test_a_checkpoint_with_a_state_that_nobody_looked_at_fits() -> None:
    env = make_vector_env(Saves, 1)
    collector = InlineCollector(env, 0)
    collector.collect(UniformPolicy(env.spec), 2, 0)
    state = collector.get_state()
    assert set(state["obs"]) == {"observation", "state", "alive"}
    again = make_vector_env(Saves, 1, global_state=False)
    other = InlineCollector(again, 0)
    assert other.set_state(state)
    assert set(other.collect(UniformPolicy(again.spec), 2, 0)["obs"]) == {"observation", "alive"}
    again.spec.check_same(env.spec, with_state=False)
    with pytest.raises(ValueError, match="with state 0, the data has uneven_v0 with state 2"):
        again.spec.check_same(env.spec)


def test_deprecated_environments_speak_for_themselves() -> None:
    def old() -> Any:
        raise DeprecatedEnv("toy_v1 is now deprecated, use toy_v2 instead")

    with pytest.raises(ValueError, match=r"^env='old': toy_v1 is now deprecated, use toy_v2 instead$"):
        make_vector_env(old, 1)
    with pytest.raises(ValueError, match=r"^env='Pendulum-v0': Environment version v0 .* use `Pendulum-v1`"):
        make_vector_env("Pendulum-v0", 1)
    named = factory({"class_path": "pettingzoo.butterfly.cooperative_pong_v3.parallel_env"}, "env")
    with pytest.raises(ValueError, match="cooperative_pong_v3 is now deprecated, use cooperative_pong_v6"):
        make_vector_env(named, 1)
