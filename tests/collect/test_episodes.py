from __future__ import annotations

import math

import numpy as np
import pytest

from lit_rl.collect.episodes import RunningEpisodes, action_norms
from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.toys import ContinuousEpisodes57, Episodes57

BOX = EnvSpec("x", LeafSpec([1]), ActionSpec("box", [2], low=[-9, -9], high=[9, 9]))
PAIR = EnvSpec("x", LeafSpec([1]), ActionSpec("box", [2], low=[-9, -9], high=[9, 9]), ["a", "b"])


def test_norms_of_actions():
    assert action_norms(np.array([[3.0, 4.0], [0, -2]]), BOX) == pytest.approx([5, 2])
    assert action_norms(np.array([[[3.0, 4.0], [0, 1]]]), PAIR) == pytest.approx([3])  # mean of agents
    rollout = np.ones((7, 3, 2))
    norms = action_norms(rollout, BOX)
    assert norms is not None
    assert norms.shape == (7, 3)
    discrete = EnvSpec("x", LeafSpec([1]), ActionSpec("discrete", categories=[2]))
    assert action_norms(np.zeros((7, 3)), discrete) is None


def test_one_environment_by_hand_over_two_batches():
    running = RunningEpisodes(1)
    first = running.finish(
        np.array([[1.0], [2], [4]]),
        None,
        np.array([1]),  # the episode ends with the second step
        np.array([[1.0], [3], [5]]),
        {"x": np.array([[np.nan], [6], [7]])},
    )
    assert {key: value.tolist() for key, value in first.items() if key not in ("values", "last_values")} == {
        "episode_return": [3],
        "episode_length": [2],
        "env_index": [0],
        "end_step": [2],
        "action_norm": [2],
    }
    assert first["values"]["x"].tolist() == first["last_values"]["x"].tolist() == [6]
    second = running.finish(
        np.array([[8.0], [16]]),
        np.array([[True], [False]]),  # the second step only reset
        np.array([0]),
        np.array([[7.0], [99]]),
        {"x": np.array([[9.0], [np.nan]])},
    )
    assert second["episode_return"].tolist() == [12]
    assert second["episode_length"].tolist() == [2]
    assert second["action_norm"].tolist() == [6]
    assert second["values"]["x"].tolist() == [8]
    assert second["last_values"]["x"].tolist() == [9]
    third = running.finish(np.array([[1.0]]), None, np.array([0]), None, {"x": np.array([[np.nan]])})
    assert third["episode_length"].tolist() == [1]
    assert math.isnan(third["values"]["x"].item())  # never reported
    assert math.isnan(third["action_norm"].item())


def test_states_continue():
    rng = np.random.default_rng(0)
    reward, norm = rng.normal(size=(2, 6, 3)), rng.random((2, 6, 3))
    ends = np.array([4, 10, 12])
    one, other = RunningEpisodes(3), RunningEpisodes(3)
    one.finish(reward[0], None, ends, norm[0])
    other.set_state(one.get_state())
    one_end, other_end = (
        one.finish(reward[1], None, ends, norm[1]),
        other.finish(reward[1], None, ends, norm[1]),
    )
    for key in ("episode_return", "episode_length", "action_norm"):
        assert one_end[key].tolist() == other_end[key].tolist()


@pytest.mark.parametrize("num_steps", [1, 4, 13])
def test_collector_agrees_with_playing_one_step_at_a_time(num_steps: int):
    """However rollouts are cut, an episode has the same statistics and the same place."""
    found = []
    for length in (num_steps, 52):
        env = make_vector_env(ContinuousEpisodes57, 2, record=["height"])
        collector, policy = InlineCollector(env, 0), _Constant(env.spec)
        rows, steps = [], 0
        for _ in range(52 // length):
            episodes = collector.collect(policy, length, 0)["episodes"]
            rows += [
                (steps + end, n, total, norm, mean, last)
                for end, n, total, norm, mean, last in zip(
                    episodes["end_step"].tolist(),
                    episodes["env_index"].tolist(),
                    episodes["episode_return"].tolist(),
                    episodes["action_norm"].tolist(),
                    episodes["values"]["height"].tolist(),
                    episodes["last_values"]["height"].tolist(),
                    strict=True,
                )
            ]
            steps += length * 2
        collector.close()
        found.append(rows)
    assert len(found[0]) == len(found[1]) > 10
    assert all(cut == pytest.approx(whole) for cut, whole in zip(*found, strict=True))
    assert found[0][0] == (
        10,
        0,
        10,
        pytest.approx(math.hypot(1, 5)),
        3,
        5,
    )  # steps 1 to 5 of two environments


class _Constant(UniformPolicy):
    """Always (1, 5)."""

    def act(self, *args, **kwargs):
        decision = super().act(*args, **kwargs)
        decision.action[:] = decision.action.new_tensor([1, 5])
        return decision


def test_evaluation_reports_what_the_environment_does():
    env = make_vector_env(Episodes57, 2, record=["height"])
    episodes = evaluate(UniformPolicy(env.spec), env, 0)
    assert episodes["values"]["height"].tolist() == [3, 4]  # of 5 and 7 steps
    assert episodes["last_values"]["height"].tolist() == [5, 7]
    assert all(math.isnan(norm) for norm in episodes["action_norm"].tolist())
    env = make_vector_env(ContinuousEpisodes57, 2)
    assert evaluate(_Constant(env.spec), env, 0)["action_norm"].tolist() == pytest.approx(
        [math.hypot(1, 5)] * 2
    )
