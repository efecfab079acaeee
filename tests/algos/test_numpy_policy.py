"""Policies in numpy: any environment's observations in, its actions out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import lit_rl
from lit_rl import HMASD, PPO, SAC, make_vector_env
from lit_rl.algos.module import RLModule
from lit_rl.algos.numpy_policy import NumpyPolicy
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.parallel_toys import Leavers, Movers
from tests.toys import ContinuousEpisodes57, Episodes57, Memory, Mixed, make_trainer


def policy_of(learner: RLModule, env: Any) -> NumpyPolicy:
    """An untrained policy for ``env``, a Gymnasium environment or a spec."""
    learner.spec = env if isinstance(env, EnvSpec) else make_vector_env(env, 1).spec
    torch.manual_seed(3)
    learner.configure_model()
    return NumpyPolicy(learner.eval())


class Started(gymnasium.Env):
    """Choices from -1 on to see, from 5 on to take."""

    observation_space = spaces.MultiDiscrete([3, 2], start=[-1, 4])
    action_space = spaces.Discrete(3, start=5)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.array([-1, 4]), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        return np.array([1, 5]), 0.0, False, False, {}


@pytest.mark.parametrize(
    ("make", "env"),
    [
        (PPO, Episodes57),
        (PPO, ContinuousEpisodes57),
        (PPO, Started),
        (PPO, partial(Mixed, "multi", mask=True)),
        (partial(PPO, gru=4), partial(Mixed, "box")),
        (SAC, ContinuousEpisodes57),
        (SAC, partial(Mixed, "box")),
    ],
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_environment_takes_what_it_predicts(make: Any, env: Any, deterministic: bool):
    policy = policy_of(make(hidden=(8,)), env)
    played = env()
    obs, _ = played.reset(seed=1)
    for _ in range(4):
        action = policy.predict(obs, deterministic)
        assert played.action_space.contains(action)
        assert np.asarray(action).dtype == played.action_space.dtype
        obs, *_ = played.step(action)


def test_a_batch_is_predicted_row_by_row():
    policy = policy_of(PPO(hidden=(8,)), partial(Mixed, "box"))
    env = Mixed("box")
    env.reset(seed=2)
    rows = [env._obs() for _ in range(3)]
    batch = {
        "goal": np.array([row["goal"] for row in rows]),
        "inner": {key: np.stack([row["inner"][key] for row in rows]) for key in ("pair", "grid")},
        "real": np.stack([row["real"] for row in rows]),
    }
    actions = policy.predict(batch)
    assert actions.shape == (3, 2, 3)
    for row, action in zip(rows, actions, strict=True):
        np.testing.assert_allclose(policy.predict(row), action, rtol=1e-5, atol=1e-6)
    assert policy.predict({key: batch[key] for key in ("goal", "real")} | {"inner": batch["inner"]}).shape
    empty = {"goal": batch["goal"][:0], "real": batch["real"][:0]}
    empty["inner"] = {key: value[:0] for key, value in batch["inner"].items()}
    assert policy.predict(empty).shape == (0, 2, 3)


def test_memory_is_kept_until_an_episode_starts():
    policy = policy_of(PPO(hidden=(8,), gru=4), ContinuousEpisodes57)
    first, second = np.ones(3, np.float32), -np.ones(3, np.float32)
    fresh = policy.predict(second)
    policy.reset()
    policy.predict(first)
    remembering = policy.predict(second)
    assert not np.allclose(fresh, remembering)
    policy.predict(first)
    np.testing.assert_allclose(policy.predict(second, episode_start=True), fresh, rtol=1e-6)
    policy.reset()
    both = np.stack([first, first])
    policy.predict(both)
    actions = policy.predict(np.stack([second, second]), episode_start=[True, False])
    np.testing.assert_allclose(actions, [fresh, remembering], rtol=1e-5)
    with pytest.raises(ValueError, match=r"remembers 2 environments, and was asked for 1; call reset\(\)"):
        policy.predict(first)
    with pytest.raises(ValueError, match="episode_start must be true or false, for all or for each of 2"):
        policy.predict(both, episode_start=[1, 0])


@pytest.mark.parametrize("masks", ["", "observation"])
@pytest.mark.parametrize("gru", [None, 4])
def test_agents_by_name_as_pettingzoo_has_them(masks: str, gru: int | None):
    vector = ParallelVectorEnv(partial(Leavers, masks=masks), 1)
    policy = policy_of(PPO(hidden=(8,), gru=gru, central_critic=True, agent_ids=True), vector.spec)
    env = Leavers(masks=masks)
    seen, _ = env.reset(seed=5)
    arranged: Any = vector.reset(5)
    carry, reset = policy.learner.initial_carry(1), torch.tensor([True])
    while env.agents:
        tensors = {key: torch.as_tensor(value) for key, value in arranged.items()}
        expected = policy.learner.act(tensors, carry, reset, greedy=True)
        carry, reset = expected.carry, torch.tensor([False])
        actions = policy.predict(seen)
        assert list(actions) == env.agents
        for agent, action in actions.items():
            assert action == expected.action[0, "abc".index(agent)]
            assert env.action_space(agent).contains(action)
        seen = {agent: own for agent, own in env.step(actions)[0].items() if agent in env.agents}
        arranged = vector.step(expected.action.numpy()).obs
    assert policy.predict({}) == {}


def test_shorter_observations_are_padded_as_in_training():
    vector = ParallelVectorEnv(Movers, 1, pad=True)
    policy = policy_of(PPO(hidden=(8,)), vector.spec)
    seen, _ = Movers().reset(seed=1)
    arranged: Any = vector.reset(1)
    by_name = policy.predict(seen)
    whole = policy.predict(arranged)
    assert [by_name[agent] for agent in vector.spec.agents] == whole[0].tolist()


def test_hmasd_asks_for_the_global_state():
    spec = EnvSpec("Pair", LeafSpec([3]), ActionSpec("discrete", categories=[2]), ["l", "r"], state=4)
    learner = HMASD(n_Z=2, n_z=2, k=3, hidden=(8,), embedding=8, heads=2, gru=4)
    policy = policy_of(
        learner, EnvSpec("Pair", {"observation": spec.observation}, spec.action, spec.agents, 4)
    )
    seen = {"l": np.zeros(3), "r": np.ones(3)}
    assert set(policy.predict(seen, global_state=np.zeros(4))) == {"l", "r"}
    with pytest.raises(
        ValueError, match=r"HMASD depend on the global state: give global_state=env.state\(\)"
    ):
        policy.predict(seen)
    with pytest.raises(ValueError, match=r"global_state must hold 4 numbers for each of 1, got \(3,\)"):
        policy.predict(seen, global_state=np.zeros(3))


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros(4), r"observation: expected shape \(3,\), or \('N', 3\) for N of them, got \(4,\)"),
        (np.zeros((2, 2, 3)), r"got \(2, 2, 3\)"),
        ({"a": np.zeros(3)}, "expected an array, got a dict with a"),
    ],
)
def test_observations_of_other_environments_are_refused(obs: Any, message: str):
    with pytest.raises(ValueError, match=message):
        policy_of(PPO(hidden=(8,)), Episodes57).predict(obs)


def test_wrong_dicts_and_choices_are_refused():
    policy = policy_of(PPO(hidden=(8,)), partial(Mixed, "box"))
    obs = Mixed("box").reset(seed=1)[0]
    with pytest.raises(ValueError, match="observation: expected a dict with goal, inner, real, got goal"):
        policy.predict({"goal": 1})
    with pytest.raises(ValueError, match=r"observation\['goal'\]: expected values from 0 to 3, got 4 to 4"):
        policy.predict(obs | {"goal": np.int64(4)})
    with pytest.raises(
        ValueError, match=r"observation\['goal'\]: expected whole numbers \(int64\), got float64"
    ):
        policy.predict(obs | {"goal": 1.5})
    with pytest.raises(ValueError, match="all keys must have as many rows"):
        policy.predict(obs | {"real": np.zeros((2, 3))})


def test_agents_that_are_missing_or_unknown_are_refused():
    vector = ParallelVectorEnv(partial(Leavers, stay=True), 1, may_leave=False)
    policy = policy_of(PPO(hidden=(8,)), vector.spec)
    with pytest.raises(ValueError, match=r"expected all agents \(a, b, c\), got a"):
        policy.predict({"a": np.zeros(2)})
    with pytest.raises(ValueError, match="expected some of the agents a, b, c, got d"):
        policy.predict({"d": np.zeros(2)})
    with pytest.raises(ValueError, match=r"observation of agent b: expected shape \(2,\), got \(3,\)"):
        policy.predict({"a": np.zeros(2), "b": np.zeros(3), "c": np.zeros(2)})


def test_loads_a_checkpoint_and_plays_what_an_evaluation_plays(tmp_path: Path):
    learner = PPO(hidden=(8,), gru=4, chunk_length=8, batch_size=32)
    data = lit_rl.RolloutDataModule(Memory, 4, 16, rollouts_per_epoch=2)
    trainer = make_trainer()
    trainer.fit(learner, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    policy = lit_rl.load(tmp_path / "last.ckpt")
    returns = []
    for seed in range(5):
        env, total, is_over = Memory(), 0.0, False
        obs, _ = env.reset(seed=seed)
        policy.reset()
        while not is_over:
            obs, reward, is_over, _, _ = env.step(policy.predict(obs))
            total += reward
        returns.append(total)
    played = lit_rl.evaluate(policy.learner, make_vector_env(Memory, 5), seed=0)
    assert returns == played["episode_return"].tolist()
