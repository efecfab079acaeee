"""Where environments come from (ids, callables, batches, processes, EnvPool); what wrong requests say."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from functools import partial
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import ClipReward, TimeAwareObservation, TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.workers.vector import WorkerVectorEnv
from lit_rl.types import VectorEnv
from tests.processes import commands_of_children


class Counter(gymnasium.Env):
    """Counts its steps up to 3; ``start`` is where it begins."""

    def __init__(self, start: int = 0, fail_in_process: int | None = None) -> None:
        if fail_in_process is not None and os.getpid() != fail_in_process:
            raise RuntimeError("cannot start in another process")
        self.observation_space = spaces.Box(0.0, 100.0, (1,))
        self.action_space = spaces.Discrete(2)
        self.start = start

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = 0
        noise = self.np_random.random()
        return np.array([self.start + noise], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        info = {"half": self.count / 2}
        return np.array([self.start + self.count], np.float32), 1.0, self.count == 3, False, info


@pytest.fixture
def counter_id() -> Iterator[str]:
    gymnasium.register("LitRLCounter-v0", entry_point=Counter)
    yield "LitRLCounter-v0"
    del gymnasium.registry["LitRLCounter-v0"]


def inner(env: VectorEnv) -> Any:
    return env.envs  # type: ignore[attr-defined]


def test_auto_is_native_only_where_it_fits() -> None:
    assert isinstance(inner(make_vector_env("CartPole-v1", 2)), CartPoleVectorEnv)
    native = make_vector_env("CartPole-v1", 2, env_kwargs={"sutton_barto_reward": True})
    assert isinstance(inner(native), CartPoleVectorEnv)
    assert isinstance(inner(make_vector_env("CartPole-v1", 2, autoreset="next_step")), SyncVectorEnv)
    assert isinstance(inner(make_vector_env("CartPole-v1", 2, vectorization="sync")), SyncVectorEnv)
    assert isinstance(
        inner(make_vector_env("CartPole-v1", 2, env_kwargs={"disable_env_checker": True})), SyncVectorEnv
    )
    wrapped = make_vector_env(
        "CartPole-v1", 2, wrappers=(TimeAwareObservation, partial(ClipReward, max_reward=0.5))
    )
    assert isinstance(inner(wrapped), SyncVectorEnv)
    assert wrapped.spec.observation.shape == [5]  # type: ignore[union-attr]
    wrapped.reset(0)
    assert wrapped.step(np.array([0, 1])).reward.tolist() == [0.5, 0.5]


def test_auto_never_takes_what_needs_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ValueError, match=r"env='phys2d/CartPole-v1' needs a package that is not installed"):
        make_vector_env("phys2d/CartPole-v1", 2)


def test_every_copy_has_its_own_seed() -> None:
    env = make_vector_env(Counter, 3)
    obs = env.reset(5)
    expected = [Counter().reset(seed=5 + i)[0] for i in range(3)]
    np.testing.assert_array_equal(obs, expected)
    assert isinstance(env, VectorEnv)


def test_callables_and_keyword_arguments(counter_id: str) -> None:
    for env in (Counter, partial(Counter), counter_id, lambda start: TimeLimit(Counter(start), 2)):
        made = make_vector_env(env, 2, env_kwargs={"start": 7})
        assert (made.reset(0) >= 7).all()
        assert made.num_envs == 2
    assert make_vector_env(partial(Counter), 1).spec.name == "Counter"


def test_callable_that_makes_its_own_batch() -> None:
    class Own:
        spec = None
        get_state = set_state = reset = step = close = print  # present, never called

        def __init__(self, num_envs: int, size: int = 1, record: tuple = ()) -> None:
            self.num_envs, self.size, self.record = num_envs, size, record

    def without_record(num_envs: int) -> Own:
        return Own(num_envs)

    made: Any = make_vector_env(Own, 4, env_kwargs={"size": 3}, record=("x",))
    assert (type(made), made.num_envs, made.size, made.record) == (Own, 4, 3, ("x",))
    wrapped = make_vector_env(lambda num_envs: gymnasium.make_vec("CartPole-v1", num_envs), 2)
    assert isinstance(inner(wrapped), CartPoleVectorEnv)
    with pytest.raises(ValueError, match="'Own' takes num_envs, so it makes its own batch"):
        make_vector_env(Own, 2, wrappers=(ClipReward,))
    with pytest.raises(TypeError, match="takes num_envs, so it must return a VectorEnv, got int"):
        make_vector_env(lambda num_envs: num_envs, 2)
    with pytest.raises(ValueError, match=r"has no argument record; it cannot report record=\['x'\]"):
        make_vector_env(without_record, 2, record=["x"])


class LeastBatch:
    """As little as a batch may have."""

    spec = None
    get_state = set_state = reset = step = print  # present, never called

    def __init__(self, num_envs: int, size: int = 1, record: tuple = ()) -> None:
        self.num_envs, self.size, self.record = num_envs, size, record

    def close(self) -> None:
        pass


class OwnBatch(LeastBatch):
    """A batch of a user, with a base that takes ``num_envs``."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)


def test_a_subclass_with_kwargs_makes_its_own_batch() -> None:
    for env in (OwnBatch, partial(OwnBatch, size=2), type("Deeper", (OwnBatch,), {})):
        made: Any = make_vector_env(env, 4, record=("x",))
        assert (made.num_envs, made.record) == (4, ("x",))


def test_batches_that_do_not_say_that_they_take_num_envs() -> None:
    """One line says what to write, whatever the factory does with an argument that it is not given."""

    def hidden(**kwargs: Any) -> Any:
        return OwnBatch(**kwargs)

    def fixed() -> Any:
        return OwnBatch(num_envs=3)

    class Renamed(gymnasium.vector.VectorEnv):
        def __init__(self, n: int) -> None:
            self.num_envs = n

    for env, what in (
        (hidden, r"was called for one environment: .* missing 1 required .*'num_envs'"),
        (Renamed, r"was called for one environment: .* missing 1 required .*'n'"),
        (fixed, "makes a batch of environments, but takes no num_envs"),
    ):
        match = rf"^env='{env.__name__}' {what}[;:] write num_envs as a parameter of {env.__name__}, as in "
        with pytest.raises(TypeError, match=match) as caught:
            make_vector_env(env, 2)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"env": "CartPol-v1"}, ValueError, "env='CartPol-v1' is not registered .* nearest: CartPole-v1"),
        ({"env": "cartpole"}, ValueError, "nearest: CartPole-v"),
        ({"env": "CartPole-v99"}, ValueError, "nearest: CartPole-v"),
        ({"env": "no_such_package:Env-v0"}, ValueError, "needs a package .* 'no_such_package'"),
        ({"env": "CartPole-v1", "num_envs": 0}, ValueError, "num_envs must be at least 1, got 0"),
        ({"env": 3}, TypeError, "env must be a Gymnasium id or a callable, got int"),
        ({"env": Counter, "render": True}, ValueError, "needs env='Counter' to have an argument render_mode"),
        ({"env": lambda: "x"}, TypeError, r"must return a gymnasium.Env, got builtins.str"),
        ({"env": "Pendulum-v1", "vectorization": "native"}, ValueError, "Pendulum-v1 has no batched class"),
        (
            {"env": Counter, "vectorization": "native"},
            ValueError,
            "'native' takes a Gymnasium id without wrappers",
        ),
        (
            {"env": "CartPole-v1", "vectorization": "threads"},
            ValueError,
            "must be auto, native, sync.* got 'threads'",
        ),
        ({"env": "Blackjack-v1"}, ValueError, r"Blackjack-v1: observation space must be .* got Tuple\("),
    ],
)
def test_wrong_requests_say_so_in_one_line(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        make_vector_env(**{"num_envs": 2, **arguments})
    assert "\n" not in str(caught.value)


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def env() -> gymnasium.Env:
        raise gymnasium.error.DependencyNotInstalled(
            'Box2D is not installed, run `pip install "gymnasium[box2d]"`'
        )

    with pytest.raises(
        ValueError, match=r"needs a package that is not installed: Box2D .*gymnasium\[box2d\]"
    ):
        make_vector_env(env, 1)
    monkeypatch.setitem(sys.modules, "envpool", None)
    with pytest.raises(ValueError, match=r"needs EnvPool: pip install 'lit-rl\[envpool\]'"):
        make_vector_env("CartPole-v1", 2, vectorization="envpool")


def test_copies_are_divided_over_processes(counter_id: str) -> None:
    env = make_vector_env(counter_id, 3, vectorization="async", num_workers=2, record=["half"])
    assert isinstance(env, WorkerVectorEnv)
    assert env.spec.name == counter_id  # an id that only this process has registered
    np.testing.assert_array_equal(env.reset(5), [Counter().reset(seed=5 + i)[0] for i in range(3)])
    steps = [env.step(np.zeros(3, np.int64)) for _ in range(3)]
    assert [step.obs[0].item() for step in steps[:2]] == [1, 2]
    assert steps[2].final_obs.tolist() == [[3]] * 3  # type: ignore[union-attr]
    assert steps[2].metrics["half"].tolist() == [1.5] * 3
    env.close()
    env.close()


def test_gymnasium_environments_have_their_wrappers_and_resets_in_processes_too() -> None:
    def stories(vectorization: Any) -> list[list[Any]]:
        wrappers = (partial(TimeLimit, max_episode_steps=2), partial(ClipReward, max_reward=0.5))
        arguments: dict[str, Any] = {
            "wrappers": wrappers,
            "autoreset": "next_step",
            "env_kwargs": {"start": 4},
        }
        env = make_vector_env(Counter, 2, vectorization=vectorization, **arguments)
        told: list[list[Any]] = [[env.reset(1).tolist()]]  # type: ignore[union-attr]
        for _ in range(5):
            step = env.step(np.zeros(2, np.int64))
            told.append([leaf if leaf is None else np.asarray(leaf).tolist() for leaf in step[:-1]])
        env.close()
        return told

    assert stories("async") == stories("sync")


def test_no_process_is_left_when_the_start_fails() -> None:
    kwargs = {"fail_in_process": os.getpid()}
    with pytest.raises(RuntimeError, match=r"environment.*: RuntimeError: cannot start in another process"):
        make_vector_env(Counter, 3, vectorization="async", env_kwargs=kwargs)
    with pytest.raises(ValueError, match="action space must be"):  # found after the processes have started
        make_vector_env(IntegerActions, 2, vectorization="async")
    assert not [command for command in commands_of_children() if "lit_rl.envs.workers.process" in command]


def test_processes_of_gymnasium_are_refused() -> None:
    def batch(num_envs: int) -> gymnasium.vector.VectorEnv:
        return AsyncVectorEnv([Counter] * num_envs)

    def wrapped(num_envs: int) -> gymnasium.vector.VectorEnv:
        return RecordEpisodeStatistics(batch(num_envs))

    for env in (batch, wrapped):
        expected = f"{env.__name__}: a run with a AsyncVectorEnv hangs on Ctrl-C, .*'async'$"
        with pytest.raises(ValueError, match=expected):
            make_vector_env(env, 2)
        assert not multiprocessing.active_children()


class IntegerActions(Counter):
    """Has an action space the library does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.action_space = spaces.Box(0, 3, (1,), np.int64)


def test_check_looks_at_one_copy_before_the_others_are_made() -> None:
    made = []

    class Wrong(Counter):
        def __init__(self) -> None:
            made.append(self)
            super().__init__()

        def step(self, action: int) -> Any:
            return super().step(action)[:4]

    with pytest.raises(ValueError, match="Wrong: step must return"):
        make_vector_env(Wrong, 8, check=True)
    assert len(made) == 1
    assert make_vector_env("CartPole-v1", 2, check=True).num_envs == 2


def test_envpool_is_made_anew_for_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in with the interface of EnvPool 1.2: seed at construction, next-step autoreset."""
    seeds = []

    class Pool(CartPoleVectorEnv):
        def __init__(self, num_envs: int, seed: int) -> None:
            super().__init__(num_envs)
            seeds.append(seed)
            super().reset(seed=seed)

        def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
            assert seed is None
            return super().reset(options=options)

    def make(env_id: str, *, env_type: str, num_envs: int, seed: int) -> Pool:
        assert (env_id, env_type) == ("CartPole-v1", "gymnasium")
        return Pool(num_envs, seed)

    envpool = ModuleType("envpool")
    envpool.make, envpool.list_all_envs = make, lambda: ["CartPole-v1", "Pong-v5"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "envpool", envpool)
    env = make_vector_env("CartPole-v1", 3, vectorization="envpool")
    first = env.reset(7)
    assert env.step(np.zeros(3, np.int64)).valid is not None
    assert inner(env).metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    np.testing.assert_array_equal(env.reset(7), first)
    assert seeds[1:] == [7, 7]
    assert env.get_state() is None
    env.close()
    with pytest.raises(ValueError, match="'Pongg-v5' is not in EnvPool; nearest: Pong-v5"):
        make_vector_env("Pongg-v5", 3, vectorization="envpool")


def test_sync_equals_single_environments() -> None:
    env = make_vector_env(CartPoleEnv, 2)
    single = CartPoleEnv()
    env.reset(3)
    single.reset(seed=3)
    for t in range(8):
        step = env.step(np.array([t % 2, 0]))
        np.testing.assert_array_equal(step.obs[0], single.step(t % 2)[0])
