from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.vector import Autoreset, make_vector_env
from lit_rl.types import Decision, Nested
from tests.toys import Episodes57, MatchingPair


class Counting(UniformPolicy):
    """Counts steps since the start of each episode in its carry; notes what it was asked."""

    def __init__(self, spec: Any) -> None:
        super().__init__(spec)
        self.asked: list[tuple[bool, bool, list[bool], list[int]]] = []

    def initial_carry(self, num_envs: int) -> Nested:
        return torch.full((num_envs,), 7)

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        steps = torch.where(reset, 0, carry)
        self.asked.append((greedy, torch.is_grad_enabled(), reset.tolist(), steps.tolist()))
        return super().act(obs, {}, reset)._replace(carry=steps + 1)


@pytest.mark.parametrize("is_greedy", [True, False])
@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_one_episode_in_each_environment(mode: Autoreset, is_greedy: bool):
    """The short ones are not played again while the long ones run."""
    env = make_vector_env(Episodes57, 4, autoreset=mode)
    policy = Counting(env.spec)
    episodes = evaluate(policy, env, seed=3, greedy=is_greedy)
    assert episodes["episode_length"].tolist() == [5, 7, 5, 5]  # seeds 3 to 6 begin with episodes 0, 1, 2, 0
    assert episodes["episode_return"].tolist() == [10, 91, 110, 10]
    assert episodes["env_index"].tolist() == [0, 1, 2, 3]
    assert len(policy.asked) == 7
    assert all(greedy == is_greedy and not has_grad for greedy, has_grad, _, _ in policy.asked)
    assert [reset for _, _, reset, _ in policy.asked[:5]] == [[True] * 4] + [[False] * 4] * 4
    assert [steps[1] for _, _, _, steps in policy.asked] == list(range(7))
    restarted = 6 if mode == "next_step" else 5
    assert policy.asked[restarted][2] == [True, False, True, True]


def test_equal_seeds_give_equal_episodes():
    env = make_vector_env("CartPole-v1", 3)
    policy = UniformPolicy(env.spec)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(0)
        results.append(evaluate(policy, env, seed)["episode_length"].tolist())
    assert results[0] == results[1] != results[2]


def test_agents_are_averaged():
    env = MatchingPair(2)
    episodes = evaluate(UniformPolicy(env.spec), env, seed=0)
    assert episodes["episode_length"].tolist() == [4, 3]
    assert (episodes["episode_return"] * 2 % 1 == 0).all()


def test_on_step_says_whether_the_first_episode_runs():
    env = make_vector_env(Episodes57, 2)
    said: list[bool] = []
    evaluate(UniformPolicy(env.spec), env, seed=3, on_step=said.append)
    assert said == [True] * 5 + [False] * 3  # before the first step and after each of the seven


@pytest.mark.parametrize("mode", ["same_step", "next_step", "disabled"])
def test_an_episode_without_an_end_is_cut(mode: Autoreset, caplog: pytest.LogCaptureFixture):
    """The second one has 7 steps; its reward of step t is t + 10."""
    env = make_vector_env(Episodes57, 4, autoreset=mode)
    policy = Counting(env.spec)
    episodes = evaluate(policy, env, seed=3, max_steps=6)
    assert caplog.messages == [
        "Episodes57: 1 of 4 evaluation episodes had no end after 6 steps (eval_max_steps) and were cut "
        "there, with the return so far; give the environment a time limit (gymnasium.wrappers.TimeLimit "
        "among "
        "its wrappers, or its own max_episode_steps), or change eval_max_steps"
    ]
    assert episodes["episode_length"].tolist() == [5, 6, 5, 5]
    assert episodes["episode_return"].tolist() == [10, 75, 110, 10]
    assert len(policy.asked) == 6
    assert evaluate(policy, env, seed=3, max_steps=7)["episode_length"].tolist() == [5, 7, 5, 5]
    assert len(caplog.messages) == 1


def test_episodes_of_agents_are_cut(caplog: pytest.LogCaptureFixture):
    env = MatchingPair(2)
    episodes = evaluate(UniformPolicy(env.spec), env, seed=0, max_steps=3)
    assert caplog.messages[0].startswith("MatchingPair: 1 of 2 evaluation episodes had no end after 3 steps")
    assert episodes["episode_length"].tolist() == [3, 3]


def test_it_stops_when_asked_to():
    env = make_vector_env(Episodes57, 2)
    answers = iter([False, False, True])
    episodes = evaluate(UniformPolicy(env.spec), env, seed=3, is_asked_to_stop=lambda: next(answers))
    assert episodes["episode_length"].tolist() == [3, 3]
