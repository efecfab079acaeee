"""A saved state continues bit for bit, through a checkpoint file read with ``weights_only=True``."""

from __future__ import annotations

import importlib
import io
import signal
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.wrappers import FrameStackObservation, RecordEpisodeStatistics, TimeAwareObservation

from lit_rl.envs import packed
from lit_rl.envs.gymnasium import exact_state
from lit_rl.envs.gymnasium.vector import GymnasiumVectorEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import Step

MUJOCO = ["HalfCheetah", "Hopper", "Ant", "Humanoid", "Reacher", "Pusher", "InvertedPendulum"]
MUJOCO_SLOW = ["Walker2d", "Swimmer", "HumanoidStandup", "InvertedDoublePendulum"]
CLASSIC = ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Acrobot-v1"]
TOY_TEXT = ["FrozenLake-v1", "Taxi-v4", "CliffWalking-v1"]


@pytest.fixture(autouse=True)
def _mujoco_writes_its_log_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def through_a_file(state: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def random_actions(env: GymnasiumVectorEnv, num_steps: int) -> np.ndarray:
    env.envs.single_action_space.seed(1)
    shape = (num_steps, env.num_envs)
    actions = [env.envs.single_action_space.sample() for _ in range(num_steps * env.num_envs)]
    return np.array(actions).reshape(*shape, *env.spec.action.shape)


def assert_same_bits(one: Step, other: Step) -> None:
    fields: list[tuple[str, Any, Any]] = list(zip(Step._fields, one, other, strict=True))
    for name, a, b in fields:
        if isinstance(a, np.ndarray):
            assert a.tobytes() == b.tobytes(), name
        elif isinstance(a, dict):
            assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}, name
        else:
            assert a is b is None, name


def assert_continues(num_before: int, num_after: int, env: Any, **arguments: Any) -> None:
    """Save in the middle, go on; a fresh copy which was used otherwise and then restored must do the same."""
    original = make_vector_env(env, 2, **arguments)
    actions = random_actions(original, num_before + num_after)
    original.reset(3)
    for action in actions[:num_before]:
        original.step(action)
    state = through_a_file(original.get_state())
    expected = [original.step(action) for action in actions[num_before:]]
    copy = make_vector_env(env, 2, **arguments)
    copy.reset(99)
    for action in actions[:7]:
        copy.step(action)
    copy.set_state(state)
    for action, step in zip(actions[num_before:], expected, strict=True):
        assert_same_bits(copy.step(action), step)
    fresh = make_vector_env(env, 2, **arguments)  # never reset
    fresh.set_state(state)
    assert_same_bits(fresh.step(actions[num_before]), expected[0])


@pytest.mark.parametrize("env_id", [*CLASSIC, *TOY_TEXT])
@pytest.mark.parametrize("num_before", [17, 39])
def test_small_environments_continue(env_id: str, num_before: int) -> None:
    arguments: dict[str, Any] = {"max_episode_steps": 20}  # resets happen after the restore
    assert_continues(num_before, 45, env_id, vectorization="sync", env_kwargs=arguments)


@pytest.mark.parametrize("num_before", [0, 9, 10, 25])
def test_native_cartpole_continues(num_before: int) -> None:
    assert_continues(num_before, 60, "CartPole-v1", env_kwargs={"max_episode_steps": 10})


@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
@pytest.mark.parametrize("num_before", [9, 10, 11])
def test_all_autoreset_modes_continue_around_an_episode_end(autoreset: Any, num_before: int) -> None:
    kwargs = {"max_episode_steps": 10}
    assert_continues(num_before, 25, "Pendulum-v1", autoreset=autoreset, env_kwargs=kwargs)


@pytest.mark.parametrize(
    "task", [*MUJOCO, *(pytest.param(task, marks=pytest.mark.slow) for task in MUJOCO_SLOW)]
)
def test_mujoco_continues_for_200_steps(task: str) -> None:
    record = {"Ant": ["x_velocity", "reward_contact"], "Humanoid": ["x_velocity"]}.get(task, [])
    arguments: dict[str, Any] = {"record": record, "env_kwargs": {"max_episode_steps": 130}}
    assert_continues(40, 200, f"{task}-v5", vectorization="sync", **arguments)


def test_mujoco_forward_alone_would_not_continue() -> None:
    """Why derived fields are copied: Ant's reward reads a position one physics step older than ``qpos``."""
    env = make_vector_env("Ant-v5", 1, vectorization="sync")
    *before, action = random_actions(env, 41)
    env.reset(0)
    for earlier in before:
        env.step(earlier)
    state = through_a_file(env.get_state())
    expected = env.step(action).reward
    env.set_state(state)
    assert env.step(action).reward == expected
    env.set_state(state)
    single = env.envs.envs[0].unwrapped
    importlib.import_module("mujoco").mj_forward(single.model, single.data)
    assert env.step(action).reward != expected


def test_wrappers_continue() -> None:
    wrappers = (TimeAwareObservation, RecordEpisodeStatistics)
    kwargs = {"max_episode_steps": 20}
    assert_continues(17, 45, "Pendulum-v1", wrappers=wrappers, env_kwargs=kwargs)
    with_checker = {**kwargs, "disable_env_checker": False}
    assert_continues(17, 45, "MountainCar-v0", env_kwargs=with_checker)


def test_episode_statistics_are_restored() -> None:
    env, copy = (make_vector_env("CartPole-v1", 1, wrappers=(RecordEpisodeStatistics,)) for _ in range(2))
    env.reset(0)
    for _ in range(12):
        env.step(np.array([1]))
    copy.set_state(through_a_file(env.get_state()))
    one, other = env.envs.envs[0], copy.envs.envs[0]
    assert other.return_queue == one.return_queue
    assert other.return_queue.maxlen == 100
    assert (other.episode_count, other.episode_lengths) == (1, one.episode_lengths)


def test_generator_state_has_128_bit_integers_which_survive() -> None:
    env = make_vector_env("CartPole-v1", 1)
    env.reset(0)
    state = through_a_file(env.get_state())
    generator = state["envs"]["batch"]["random"]["generator"]
    assert generator == env.envs.np_random.bit_generator.state
    assert generator["state"]["inc"].bit_length() > 64
    other = make_vector_env("CartPole-v1", 1)
    other.set_state(state)
    assert other.envs.np_random.random() == env.envs.np_random.random()


class SavesItself(gymnasium.Env):
    """Has its own pair; ``saved`` decides what it gives."""

    def __init__(self, saved: Any = "state") -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
        self.action_space = gymnasium.spaces.Discrete(2)
        self.saved = saved

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x = self.np_random.normal(size=1).astype(np.float32)
        return self.x.copy(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.x = self.x + action + self.np_random.normal(size=1).astype(np.float32)
        return self.x.copy(), 0.0, False, False, {}

    def get_state(self) -> Any:
        if self.saved == "state":
            return {"x": self.x, "tensor": torch.ones(1), "nested": [(1, np.float32(2.0)), "word", None]}
        return self.saved

    def set_state(self, state: Any) -> None:
        assert isinstance(state["tensor"], torch.Tensor)
        pair, word, nothing = state["nested"]
        assert isinstance(pair, tuple)
        assert isinstance(pair[1], np.float32)
        assert (pair, word, nothing) == ((1, 2.0), "word", None)
        self.x = state["x"]


def test_own_pair_is_used_and_its_random_stream_continues() -> None:
    assert_continues(5, 5, SavesItself)


class Unknown(SavesItself):
    """Its ``set_state`` is of another kind, as that of MuJoCo environments is."""

    def set_state(self, x: Any, v: Any) -> None:  # type: ignore[override]
        raise AssertionError


def test_unknown_classes_are_named_and_give_no_state() -> None:
    cases = {
        ".Unknown": make_vector_env(Unknown, 2),
        ".SavesItself": make_vector_env(SavesItself, 2, env_kwargs={"saved": None}),
        "gymnasium.wrappers.stateful_observation.FrameStackObservation": make_vector_env(
            "CartPole-v1", 2, wrappers=(lambda env: FrameStackObservation(env, 2),)
        ),
    }
    for name, env in cases.items():
        env.reset(0)
        assert env.get_state() is None
        assert env.unknown_class.endswith(name)  # type: ignore[attr-defined]
    known: Any = make_vector_env("CartPole-v1", 2)
    assert known.unknown_class is None


@pytest.mark.parametrize(
    ("held", "got"),
    [
        (object(), "object"),
        (np.array([None]), "array of object"),
        ({frozenset(): 1}, "dict"),
        (signal.SIGTERM, "Signals"),
    ],
)
def test_a_state_that_no_checkpoint_can_hold_ends_no_run(
    held: Any, got: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_warned_of", set())
    env = make_vector_env(SavesItself, 2, env_kwargs={"saved": {"kept": [held]}})
    env.reset(0)
    assert env.get_state() is env.get_state() is None
    assert env.unknown_class.endswith(".SavesItself")  # type: ignore[attr-defined]
    (said,) = caplog.messages
    assert said.endswith(f"episodes: a state may hold arrays, numbers, strings, lists and dicts; got {got}")


def test_subclass_of_a_known_class_is_unknown() -> None:
    class Windy(gymnasium.envs.classic_control.CartPoleEnv):  # type: ignore[name-defined]
        wind = 0.0

    assert make_vector_env(Windy, 1).get_state() is None


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "HalfCheetah-v5"])
def test_copies_continue_in_other_processes(env_id: str) -> None:
    """A run may be resumed with another number of workers, or with none."""
    kwargs = {"max_episode_steps": 10}
    alone = make_vector_env(env_id, 3, vectorization="sync", env_kwargs=kwargs)
    actions = random_actions(alone, 30)  # type: ignore[arg-type]
    alone.reset(3)
    for action in actions[:13]:
        alone.step(action)
    states = [through_a_file(alone.get_state())]
    expected = [alone.step(action) for action in actions[13:]]
    for num_workers in (1, 2):
        arguments: Any = {"vectorization": "async", "num_workers": num_workers, "env_kwargs": kwargs}
        workers = make_vector_env(env_id, 3, **arguments)
        workers.set_state(states[-1])
        states.append(through_a_file(workers.get_state()))
        for action, step in zip(actions[13:], expected, strict=True):
            assert_same_bits(workers.step(action), step)
        workers.close()
    alone.set_state(states[-1])
    for action, step in zip(actions[13:], expected, strict=True):
        assert_same_bits(alone.step(action), step)


def test_a_state_that_was_saved_before_there_were_workers_continues() -> None:
    env = make_vector_env("Pendulum-v1", 2, autoreset="next_step", env_kwargs={"max_episode_steps": 10})
    actions = random_actions(env, 25)  # type: ignore[arg-type]
    env.reset(3)
    for action in actions[:10]:
        env.step(action)
    copies = through_a_file(env.get_state())["envs"]
    assert [copy["autoreset"] for copy in copies] == [True, True]
    autoreset = {"numpy": torch.tensor([copy["autoreset"] for copy in copies])}
    rows = [copy["layers"] for copy in copies]
    old = {
        "envs": {"num_envs": 2, "rows": rows, "autoreset": autoreset},
        "valid": [copy["valid"] for copy in copies],
    }
    expected = [env.step(action) for action in actions[10:]]
    env.set_state(through_a_file(old))
    for action, step in zip(actions[10:], expected, strict=True):
        assert_same_bits(env.step(action), step)


def test_state_of_something_else_is_refused() -> None:
    def state(env_id: str = "Pendulum-v1", num_envs: int = 2, **arguments: Any) -> Any:
        env = make_vector_env(env_id, num_envs, **arguments)
        env.reset(0)
        return env.get_state()

    env = make_vector_env("Pendulum-v1", 2)
    with pytest.raises(ValueError, match="the state is of num_envs=3, there are num_envs=2"):
        env.set_state(state(num_envs=3))
    with pytest.raises(
        ValueError, match=r"the state is of .*MountainCarEnv, the environment has .*PendulumEnv"
    ):
        env.set_state(state("MountainCar-v0"))
    with pytest.raises(ValueError, match=r"the state has 3 wrappers, the environment 2: .*PendulumEnv"):
        env.set_state(state(wrappers=(TimeAwareObservation,)))
    with pytest.raises(ValueError, match=r"the state is of another vectorization than .*SyncVectorEnv"):
        env.set_state(state("CartPole-v1"))
    workers = make_vector_env("CartPole-v1", 2, vectorization="async", num_workers=2)
    with pytest.raises(ValueError, match="the state is of a batch in one process; workers need that of"):
        workers.set_state(state("CartPole-v1"))
    workers.close()


@pytest.mark.parametrize("name", ["test", "seed", "BitGenerator.seed", "os", None])
def test_a_state_names_a_generator_of_numpy_and_calls_nothing_else(name: Any) -> None:
    env = make_vector_env("CartPole-v1", 1, vectorization="sync")
    env.reset(0)
    state: Any = env.get_state()
    state["envs"][0]["layers"][-1]["random"]["generator"]["bit_generator"] = name
    with pytest.raises(ValueError, match=f"the state names {name!r}, expected a bit generator of numpy"):
        env.set_state(state)


def test_tables_name_classes_that_exist() -> None:
    for name in [*exact_state._WRAPPER_ATTRIBUTES, *exact_state._ENV_ATTRIBUTES]:
        module, _, qualname = name.rpartition(".")
        assert hasattr(importlib.import_module(module), qualname), name
    for module in exact_state._MUJOCO_MODULES:
        assert importlib.util.find_spec(module) is not None
