"""Faults after the trial name environment, step, key, expected and got, however it is vectorized."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.envs.faults import EnvironmentExitError, EnvironmentFaultError
from lit_rl.envs.vector import make_vector_env
from tests import forked
from tests.late_toys import SEED, Late, LateBatch, LateTeam

NUM_ENVS, FIRST = 4, 10  # so that environment 2 is the one that goes wrong


@pytest.fixture(autouse=True)
def fork_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lit_rl.envs.workers.worker.ModuleProcess", forked.ForkedProcess)


def message_of(make: Callable[..., Any], **settings: Any) -> str:
    """What is raised when 44 steps are collected."""
    env = make_vector_env(make, NUM_ENVS, **settings)
    collector = InlineCollector(env, FIRST)
    try:
        with pytest.raises(EnvironmentFaultError) as caught:
            collector.collect(UniformPolicy(env.spec), 44, 0)
    finally:
        collector.close()
    assert "\n" not in str(caught.value)
    return str(caught.value)


ONE: dict[str, str] = {
    "shape": "observation['x'] of step 20 has shape (3,), its space has (2,)",
    "broadcast": "observation['x'] of step 20 has shape (1,), its space has (2,)",
    "text": "observation['x'] of step 20 has dtype <U1, its space has float32; return obs.astype(...)",
    "key": "observation of step 20 has keys ['flags', 'x'], its space has ['flags', 'kind', 'x']",
    "category": "observation['kind'] of step 20 is 7, expected 5 to 6",
    "no integer": "observation['kind'] of step 20 is a float, expected an integer",
    "flags": "observation['flags'] of step 20 is 2, expected 0 to 1",
    "reward": "reward of step 20 is a numpy array of shape (2,), expected a float",
    "flag": "terminated of step 20 is a numpy array of shape (2,), expected a bool",
    "info": "info of step 20 is a str, expected a dict",
    "four": "step 20 must return (obs, reward, terminated, truncated, info), got a tuple of 4 values",
    "last shape": "last observation['x'] of step 20 has shape (3,), its space has (2,)",
    "last category": "last observation['kind'] of step 20 is 7, expected 5 to 6",
}
WAYS: dict[str, dict[str, Any]] = {
    "sync": {},
    "next step": {"autoreset": "next_step"},
    "no autoreset": {"autoreset": "disabled"},
    "async": {"vectorization": "async", "num_workers": 2},
}


@pytest.mark.parametrize("how", ONE)
def test_copies(how: str) -> None:
    assert message_of(partial(Late, how)) == f"Late (environment 2): {ONE[how]}"


@pytest.mark.parametrize("way", list(WAYS)[1:])
def test_copies_in_another_way(way: str) -> None:
    for how in ("shape", "key", "category", "four"):
        expected = ONE[how].replace("20", "21") if way == "next step" else ONE[how]  # one step only reset
        assert message_of(partial(Late, how), **WAYS[way]) == f"Late (environment 2): {expected}"


def test_a_reset_after_the_trial() -> None:
    expected = (
        "observation of the reset after step 10 has keys ['kind'], its space has ['flags', 'kind', 'x']"
    )
    assert message_of(partial(Late, "reset")) == f"Late (environment 2): {expected}"
    env: Any = make_vector_env(partial(Late, "reset"), NUM_ENVS)
    for single in env.envs.envs:
        single.t = 11
    now = expected.replace("reset after step 10", "reset")
    with pytest.raises(EnvironmentFaultError, match=re.escape(f"Late (environment 2): {now}")):
        env.reset(FIRST)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_fault(way: str) -> None:
    env = make_vector_env(partial(Late, "lenient"), NUM_ENVS, **WAYS[way])
    collector = InlineCollector(env, FIRST)
    rollout: Any = collector.collect(UniformPolicy(env.spec), 24, 0)
    collector.close()
    t = 21 if way == "next step" else 20
    assert rollout["terminated"][t].tolist() == [False, False, True, False]
    last = rollout["final_obs"]["x"][rollout["final_index"] == t * NUM_ENVS + 2]
    assert last.tolist() == [[9.5, 9.5]]


TEAM: dict[str, str] = {
    "shape": "observation of agent b of step 20 has shape (3,), its space has (2,)",
    "broadcast": "observation of agent b of step 20 has shape (1,), its space has (2,)",
    "text": "observation of agent b of step 20 has dtype <U1, its space has float32; return obs.astype(...)",
    "key": "observation of agent b of step 20 is missing; it is given for a",
    "category": "observation of agent b of step 20 is 7, expected 5 to 6",
    "reward": "reward of agent b of step 20 is a numpy array of shape (2,), expected a float",
    "no reward": "reward of agent b of step 20 is missing; it is given for a",
    "mask": "info of agent b['action_mask'] must have one entry per choice, here shape (2,); it has (1,)",
    "four": "step 20 must return five dicts (observations, rewards, terminations, truncations, infos), got a "
    "tuple of dict, dict, dict, dict",
}


@pytest.mark.parametrize("how", TEAM)
def test_agents(how: str) -> None:
    make = partial(LateTeam, how, how == "category", how == "mask")
    assert message_of(make) == f"late_team (environment 2): {TEAM[how]}"
    if how in ("broadcast", "key"):
        workers = {"vectorization": "async", "num_workers": 2}
        assert message_of(make, **workers) == f"late_team (environment 2): {TEAM[how]}"


BATCH: dict[str, str] = {
    "category": "late batch (environment 2): observation['kind'] of step 20 is 7, expected 5 to 6",
    "negative": "late batch (environment 2): observation['kind'] of step 20 is 4, expected 5 to 6",
    "key": "late batch: observation of step 20 must be a dict with the keys ['kind', 'x'], got the keys "
    "['kind']",
    "broadcast": "late batch: observation['x'] of step 20 has shape (1, 2), expected (4, 2)",
    "dtype": "late batch: observation['x'] of step 20 has dtype float64, expected float32",
    "list": "late batch: observation['x'] of step 20 is a list, expected a numpy array of shape (4, 2)",
    "reward": "late batch: reward of step 20 has shape (4, 1), expected (4,)",
    "flags": "late batch: terminated of step 20 has dtype int64, expected bool",
    "last": "late batch: last observation of step 20 is None, expected the last observations of 4 episodes "
    "that ended",
    "last shape": "late batch: last observation['x'] of step 20 has shape (4, 1), expected (4, 2)",
}


def batch(num_envs: int, how: str) -> LateBatch:
    return LateBatch(num_envs, how)


@pytest.mark.parametrize("how", BATCH)
def test_native_batches(how: str) -> None:
    make, settings = batch, {"env_kwargs": {"how": how}}
    assert message_of(make, **settings) == BATCH[how]
    if how in ("category", "dtype", "broadcast", "flags"):
        workers = message_of(make, vectorization="async", num_workers=2, **settings)
        expected = BATCH[how].replace("(4, 2)", "(2, 2)").replace("batch:", "batch (environments 2 to 3):")
        assert workers == expected


def test_workers_that_collect_and_evaluations() -> None:
    make = partial(make_vector_env, partial(Late, "shape"))
    collector = WorkersCollector(make, NUM_ENVS, FIRST, 2)
    try:
        with pytest.raises(EnvironmentFaultError) as caught:
            collector.collect(UniformPolicy(collector.spec), 44, 0)
    finally:
        collector.close()
    assert str(caught.value) == f"Late (environment 2): {ONE['shape']}"
    env = make_vector_env(batch, NUM_ENVS, env_kwargs={"how": "dtype"})
    env.spec.observation["x"].shape[:] = [3]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript]
    with pytest.raises(
        EnvironmentFaultError, match=r"observation\['x'\] of the reset has shape \(4, 2\), expected \(4, 3\)"
    ):
        evaluate(UniformPolicy(env.spec), env, SEED)


@pytest.mark.parametrize("way", WAYS)
def test_an_exit_is_an_error_of_the_environment(way: str) -> None:
    env = make_vector_env(partial(Late, "exit"), NUM_ENVS, **WAYS[way])
    collector = InlineCollector(env, FIRST)
    name = r"Late \(environments 2 to 3\)" if way == "async" else "Late"
    with pytest.raises(EnvironmentExitError, match=rf"^{name}: the environment called sys.exit\(0\); end an"):
        collector.collect(UniformPolicy(env.spec), 44, 0)
    collector.close()


def test_a_reward_that_is_nan_names_the_agent() -> None:
    env = make_vector_env(partial(LateTeam, "nan"), NUM_ENVS)
    expected = "the environment returned: reward_TNA is nan at step 20, environment 2, agent b; 1 of its"
    with pytest.raises(FloatingPointError, match=re.escape(expected)):
        InlineCollector(env, FIRST).collect(UniformPolicy(env.spec), 24, 0)


def test_nothing_is_said_of_environments_that_raise_by_themselves() -> None:
    class Raises(Late):
        def step(self, action: Any) -> Any:
            if self.t == 3:
                raise KeyError("of the environment")
            return super().step(action)

    env = make_vector_env(Raises, 2)
    env.reset(0)
    for _ in range(3):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(KeyError, match="of the environment"):
        env.step(np.zeros(2, np.int64))
