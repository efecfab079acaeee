import logging

import numpy as np
import pytest
import torch

from lit_rl.callbacks.paper.reward_components import (
    EpisodeComponents,
    component_arrays,
    environment_reward,
    episode_sums,
)

STEPS, ENVS = 40, 3


def test_sums_of_two_episodes_by_hand():
    values = np.array([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]]])
    sums, rest = episode_sums(values, np.array([[100.0, 1000.0]]), np.array([0 * 2 + 0, 2 * 2 + 0]))
    assert sums.tolist() == [[101.0, 6.0]]
    assert rest.tolist() == [[0.0, 1070.0]]


def test_no_episode_ends():
    sums, rest = episode_sums(np.ones((1, 4, 2)), np.zeros((1, 2)), np.array([], np.int64))
    assert sums.tolist() == [[]]
    assert rest.tolist() == [[4.0, 4.0]]


@pytest.fixture
def stream():
    """Values (T, N) and ends (T, N) of a long run, and the sums of its episodes from a slow loop."""
    rng = np.random.default_rng(0)
    values, ends = rng.normal(size=(STEPS, ENVS)), rng.random((STEPS, ENVS)) < 0.2
    running, sums = np.zeros(ENVS), []
    for t in range(STEPS):
        for n in range(ENVS):
            running[n] += values[t, n]
            if ends[t, n]:
                sums.append(running[n])
                running[n] = 0.0
    return values, ends, sums


@pytest.mark.parametrize("length", [1, 7, STEPS])
def test_batches_of_any_length_give_the_sums_of_a_slow_twin(stream, length):
    values, ends, expected = stream
    running, sums = np.zeros((2, ENVS)), []
    for t in range(0, STEPS, length):
        ended, running = episode_sums(
            np.stack([values, 2 * values])[:, t : t + length], running, np.flatnonzero(ends[t : t + length])
        )
        sums += ended.T.tolist()
    np.testing.assert_allclose(sums, np.outer(expected, [1, 2]), atol=1e-12)


def make_rollout(reward, ends, returns, first=False, valid=None):
    reward = torch.tensor(reward)
    steps, envs = reward.shape[:2]
    reset = torch.zeros(steps + 1, envs, dtype=torch.bool)
    reset[0] = first
    return {
        "reward": reward,
        "terminated": torch.zeros(steps, envs, dtype=torch.bool),
        "valid": valid,
        "reset": reset,
        "final_index": torch.tensor(ends, dtype=torch.int64),
        "episodes": {"episode_return": torch.tensor(returns, dtype=torch.float64)},
    }


def test_components_across_batches():
    sums = EpisodeComponents()
    arrays = {"env": np.array([[1.0], [2.0]]), "team_disc": np.array([[0.5], [0.25]])}
    first = make_rollout([[1.0], [2.0]], [], [], first=True)
    assert sums.update(first, arrays) == ([], [], [])
    second = make_rollout([[1.0], [2.0]], [0], [4.0])
    assert sums.update(second, arrays) == ([4.0], [1.25], [0.0])
    assert sums.mismatches == 0


def test_without_the_environments_part_the_return_takes_its_place():
    sums = EpisodeComponents()
    rollout = make_rollout([[1.0], [2.0]], [1], [3.0])
    assert sums.update(rollout, {"ind_disc": np.array([[-1.0], [-2.0]])}) == ([3.0], [0.0], [-3.0])


def test_episodes_that_a_resume_could_not_continue_are_forgotten():
    sums = EpisodeComponents()
    arrays = {"team_disc": np.array([[1.0], [1.0]])}
    sums.update(make_rollout([[1.0], [2.0]], [], [], first=True), arrays)
    assert sums.update(make_rollout([[1.0], [2.0]], [1], [3.0], first=True), arrays)[1] == [2.0]


def test_a_wrong_environment_part_is_told_once_and_counted(caplog):
    sums = EpisodeComponents()
    rollout = make_rollout([[1.0], [2.0]], [0, 1], [1.0, 2.0], first=True)
    with caplog.at_level(logging.WARNING, "lit_rl"):
        for _ in range(2):
            sums.update(rollout, {"env": np.array([[1.0], [5.0]])})
    assert sums.mismatches == 2
    (record,) = caplog.records
    assert "must sum to the return of the episode, 2, got 5" in record.getMessage()


def test_rounding_of_float32_is_no_mismatch():
    reward = (np.random.default_rng(0).normal(size=(1000, 1)) * 1e4).astype(np.float32)
    sums = EpisodeComponents()
    rounded = np.cumsum(reward, 0, dtype=np.float32)[-1:] - np.zeros((1, 1))
    rollout = make_rollout(reward, [999], [float(reward.astype(np.float64).sum())], first=True)
    arrays = {"env": np.concatenate([reward[:-1] * 1.0, rounded - reward[:-1].astype(np.float64).sum()])}
    sums.update(rollout, arrays)
    assert sums.mismatches == 0


def test_state_continues():
    arrays = {"env": np.array([[1.0], [2.0]])}
    first, second = EpisodeComponents(), EpisodeComponents()
    first.update(make_rollout([[1.0], [2.0]], [], [], first=True), arrays)
    second.set_state(first.get_state())
    assert second.update(make_rollout([[1.0], [2.0]], [1], [6.0]), arrays)[0] == [6.0]
    assert first.get_state() == {"mismatches": 0, "running": [[3.0], [0.0], [0.0], [3.0]]}


def test_arrays_leave_out_steps_that_only_reset():
    rollout = make_rollout([[1.0], [2.0]], [], [], valid=torch.tensor([[True], [False]]))
    (values,) = component_arrays(rollout, {"env": rollout["reward"]}).values()
    assert values.tolist() == [[1.0], [0.0]]


def test_reward_of_agents_is_averaged():
    rollout = make_rollout([[[1.0, 3.0]]], [], [])
    assert environment_reward(rollout).tolist() == [[2.0]]


def test_a_component_of_another_shape_is_refused():
    rollout = make_rollout([[1.0, 2.0]], [], [])
    with pytest.raises(ValueError, match=r"'team_disc'\] must have the shape \(T, N\) = \(1, 2\)"):
        component_arrays(rollout, {"team_disc": torch.zeros(1, 2, 3)})
