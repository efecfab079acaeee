"""What an environment saw last is kept, however it is vectorized, and whatever it does with its arrays."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.workers.vector import WorkerVectorEnv
from lit_rl.nested import leaves, named_leaves
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Step, VectorEnv
from tests.reuse_toys import OneArray, OneArrayTeam, copies

NUM_ENVS = 2


def own_batch(num_envs: int, wrapped: bool = False) -> gymnasium.vector.VectorEnv:
    """Copies that a user vectorized."""
    batch = SyncVectorEnv([OneArray] * num_envs, copy=False, autoreset_mode=AutoresetMode.SAME_STEP)
    return RecordEpisodeStatistics(batch) if wrapped else batch


def wrapped_batch(num_envs: int) -> gymnasium.vector.VectorEnv:
    return own_batch(num_envs, wrapped=True)


NESTED = {"nested": True}
WAYS: dict[str, Callable[[int], VectorEnv]] = {
    "sync": copies,
    "sync, Dict": partial(copies, env_kwargs=NESTED),
    "sync, next step": partial(copies, autoreset="next_step"),
    "sync, no autoreset": partial(copies, autoreset="disabled", env_kwargs=NESTED),
    "async": partial(copies, vectorization="async"),
    "async, Dict": partial(copies, vectorization="async", env_kwargs=NESTED),
    "async, next step": partial(copies, vectorization="async", autoreset="next_step"),
    "a batch of a user's": partial(make_vector_env, own_batch, record=["seen"]),
    "a wrapped batch of a user's": partial(make_vector_env, wrapped_batch, record=["seen"]),
    "workers": lambda num_envs: WorkerVectorEnv(copies, num_envs, 2),
    "workers, Dict": lambda num_envs: WorkerVectorEnv(partial(copies, env_kwargs=NESTED), num_envs, 2),
    "PettingZoo": partial(ParallelVectorEnv, OneArrayTeam, check=False, record=["seen"]),
    "PettingZoo, workers": partial(
        make_vector_env, OneArrayTeam, vectorization="async", num_workers=2, record=["seen"]
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_last_observation_is_the_one_before_the_reset(way: str) -> None:
    env = WAYS[way](NUM_ENVS)
    spec = env.spec
    action = np.zeros((NUM_ENVS, *([2] if spec.agents else [])), np.int64)
    now = env.reset(0)
    steps = [env.step(action) for _ in range(9)]
    env.close()
    ended = [t for t, step in enumerate(steps) if step.final_obs is not None]
    assert ended == ([3, 8] if "next" in way else [3, 7])
    for t in ended:
        for name, leaf in named_leaves(steps[t].final_obs):
            assert name == "alive" or (leaf == 3).all(), (t, name)
        assert steps[t].metrics["seen"].tolist() == [3, 3]
    seen = [next(leaves(obs)).ravel()[0] for obs in (now, *(step.obs for step in steps))]
    assert seen == ([-1, 0, 1, 2, 3, -1, 0, 1, 2, 3] if "next" in way else [-1, 0, 1, 2, -1, 0, 1, 2, -1, 0])


class OneBuffer:
    """A native batch that returns the same arrays at each step: obs = t - 1 + 10 * episode, 4 steps each."""

    def __init__(self, num_envs: int) -> None:
        self.num_envs = num_envs
        self.spec = EnvSpec("one buffer", {"x": LeafSpec([1])}, ActionSpec("discrete", categories=[2]))
        self.obs, self.final = ({"x": np.zeros((num_envs, 1), np.float32)} for _ in range(2))
        self.ended, self.never = np.zeros((2, num_envs), bool)
        self.reward = np.zeros(num_envs, np.float32)

    def reset(self, seed: int) -> Any:
        self.obs["x"][:] = -1 + 100 * np.arange(self.num_envs)[:, None]
        self.t = 0
        return self.obs

    def step(self, action: np.ndarray) -> Step:
        self.t += 1
        self.obs["x"] += 1
        self.reward[:] = self.t
        self.ended[:] = self.t % 4 == 0
        final = None
        if self.ended.any():
            self.final["x"][:] = self.obs["x"]
            self.obs["x"] += 6
            final = self.final
        return Step(self.obs, self.reward, self.never, self.ended, final, None, {})

    def get_state(self) -> None:
        return None

    def set_state(self, state: dict[str, Any]) -> None:
        raise AssertionError("it has no state")

    def close(self) -> None:
        pass


def test_a_rollout_keeps_nothing_that_a_native_batch_writes_into() -> None:
    env = OneBuffer(2)
    collector, policy = InlineCollector(env, 0), UniformPolicy(env.spec)
    first, second = collector.collect(policy, 9, 0), collector.collect(policy, 4, 0)
    assert first["obs"]["x"][:, 0, 0].tolist() == [-1, 0, 1, 2, 9, 10, 11, 12, 19, 20]
    assert first["final_obs"]["x"][:, 0].tolist() == [3, 103, 13, 113]
    assert first["truncated"][:, 0].nonzero().flatten().tolist() == [3, 7]
    assert first["reward"][:, 0].tolist() == list(range(1, 10))
    assert second["obs"]["x"][:, 1, 0].tolist() == [120, 121, 122, 129, 130]
    assert second["final_obs"]["x"][:, 0].tolist() == [23, 123]


class WritesAction(gymnasium.Env):
    """Changes the action that it is given, in place."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        action[:] = 1
        return np.zeros(1, np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    "space", [spaces.Box(-np.inf, np.inf, (2,)), spaces.Box(-9, 9, (2,)), spaces.MultiDiscrete([9, 9])]
)
def test_what_the_policy_did_is_recorded_whatever_the_environment_makes_of_it(space: spaces.Space) -> None:
    env = make_vector_env(partial(WritesAction, space), NUM_ENVS)
    action = np.full((NUM_ENVS, 2), 5, np.int64 if space.dtype == np.int64 else np.float32)
    env.reset(0)
    env.step(action)
    assert (action == 5).all()
