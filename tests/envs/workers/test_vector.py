"""Workers against one process, and what is left of them when something fails."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.envs.faults import EnvironmentExitError
from lit_rl.envs.pettingzoo.vector import ParallelVectorEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.workers.vector import WorkerVectorEnv
from lit_rl.nested import leaves
from lit_rl.processes import allowed_cores
from lit_rl.types import Step, VectorEnv
from tests.parallel_toys import Leavers, Movers
from tests.processes import Forked, commands_of_children, is_alive, wait_until
from tests.worker_toys import Clocks, Deadly, Fails, Forks, GlobalNoise, Saves, Uneven

ZEROS = np.zeros((4, 3), np.int64)


def pids(env: Any) -> list[int]:
    return [worker.process.pid for worker in env._workers]


def shared_memory() -> list[str]:
    """Open files of this process that are memory of workers."""
    files = (str(file.readlink()) for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    return [file for file in files if "memfd:lit_rl" in file]


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No test leaves a worker or its memory; a failed fit of another test may hold that of its last step."""
    before = len(shared_memory())
    yield
    if len(shared_memory()) > before:
        gc.collect()  # the frames of an exception hold the mapped memory
    assert not [command for command in commands_of_children() if "lit_rl.envs.workers.process" in command]
    assert len(shared_memory()) <= before


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal keys, dtypes and bits."""
    if isinstance(theirs, Step):
        for field, a, b in zip(Step._fields, ours, theirs, strict=True):
            assert (a is None) == (b is None), field
            assert_same(a, b)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key in theirs:
            assert_same(ours[key], theirs[key])
    elif theirs is not None:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


COPIES = {
    "agents that leave": partial(ParallelVectorEnv, Leavers, env_kwargs={"ends": "ttu"}, record=["height"]),
    "episodes of several lengths": partial(ParallelVectorEnv, Uneven, record=["height"]),
    "masks": partial(ParallelVectorEnv, Uneven, env_kwargs={"masks": "info"}, team_reward=True),
    "one array": partial(
        ParallelVectorEnv, Leavers, env_kwargs={"stay": True, "has_state": False}, may_leave=False
    ),
    "continuous": partial(ParallelVectorEnv, Movers, pad=True),
    "a native batch": Clocks,
}


@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_workers_give_what_one_process_gives(make: Any) -> None:
    alone, workers = make(5), WorkerVectorEnv(make, 5, 2)
    assert isinstance(workers, VectorEnv)
    assert (workers.num_envs, workers.spec) == (5, alone.spec)
    policy, rng = alone.spec.action, np.random.default_rng(0)
    shape = (5, *([len(alone.spec.agents)] if alone.spec.agents else []), *policy.shape)
    some_ended = []
    for seed in (3, 4):
        assert_same(workers.reset(seed), alone.reset(seed))
        for _ in range(14):
            action = rng.normal(size=shape) if policy.kind == "box" else rng.integers(3, size=shape)
            if policy.kind == "box":
                action = action.astype(np.float32)
            ours, theirs = workers.step(action), alone.step(action.copy())
            assert_same(ours, theirs)
            some_ended.append(int((theirs.terminated | theirs.truncated).sum()))
    assert any(some_ended)
    workers.close()


def test_steps_are_new_arrays() -> None:
    env = WorkerVectorEnv(partial(ParallelVectorEnv, Uneven, record=["height"]), 4, 2)
    env.reset(0)
    for _ in range(3):
        step = env.step(ZEROS)
        kept = [leaf.copy() for leaf in leaves(step._asdict()) if leaf is not None]
        env.step(ZEROS + 1)
        for before, leaf in zip(kept, (x for x in leaves(step._asdict()) if x is not None), strict=True):
            np.testing.assert_array_equal(leaf, before)
    env.close()


def test_an_action_of_another_dtype() -> None:
    make = partial(ParallelVectorEnv, Uneven)
    alone, workers = make(4), WorkerVectorEnv(make, 4, 4)
    assert_same(workers.reset(0), alone.reset(0))
    for dtype in (np.int64, np.int32, np.int64):
        assert_same(workers.step(ZEROS.astype(dtype)), alone.step(ZEROS.astype(dtype)))
    with pytest.raises(
        ValueError, match=r"action must have shape \(4, 3\) \(num_envs and agents first\), got"
    ):
        workers.step(ZEROS[:3])
    workers.step(ZEROS)  # a wrong shape ends nothing
    workers.close()


def test_states_fit_any_number_of_workers(tmp_path: Path) -> None:
    make = partial(ParallelVectorEnv, Saves)
    actions = np.random.default_rng(0).integers(3, size=(30, 4, 3))
    for first, then in ((2, 0), (0, 3)):  # 0 is this process
        before, after = (WorkerVectorEnv(make, 4, n) if n else make(4) for n in (first, then))
        assert before.unknown_class is None
        before.reset(1)
        for action in actions[:15]:
            before.step(action)
        torch.save(before.get_state(), tmp_path / "state.pt")
        after.reset(99)
        state = torch.load(tmp_path / "state.pt", weights_only=True)
        state["envs"][0]["number"] = torch.tensor(state["envs"][0]["number"])  # tensors reach the workers
        after.set_state(state)
        for action in actions[15:]:
            assert_same(after.step(action), before.step(action))
        for env in (before, after):
            env.close()


def test_states_of_batches_and_of_nobody() -> None:
    env, other = (WorkerVectorEnv(Clocks, 4, n) for n in (2, 3))
    env.reset(1)
    for _ in range(4):
        env.step(np.zeros((4, 2)))
    state: Any = env.get_state()
    after = [env.step(np.zeros((4, 2))) for _ in range(4)]
    env.set_state(state)
    for step in after:
        assert_same(env.step(np.zeros((4, 2))), step)
    with pytest.raises(ValueError, match="the state is of num_workers=2, there are num_workers=3"):
        other.set_state(state)
    with pytest.raises(ValueError, match="the state is of num_envs=3, there are num_envs=4"):
        other.set_state({"envs": [{}] * 3})
    unknown = WorkerVectorEnv(partial(ParallelVectorEnv, Leavers), 2, 1)
    assert unknown.get_state() is None
    assert unknown.unknown_class == "tests.parallel_toys.Leavers"
    for each in (env, other, unknown):
        each.close()


def test_environments_that_draw_from_the_global_generators_repeat_themselves() -> None:
    env = WorkerVectorEnv(partial(ParallelVectorEnv, GlobalNoise), 4, 2)
    assert_same(env.reset(5), env.reset(5))
    obs: Any = env.reset(5)
    assert len(np.unique(obs["observation"][:, 0, 0])) == 4
    env.close()


def test_a_class_of_a_notebook_and_a_lambda() -> None:
    class Here(Leavers):
        metadata = {"name": "here_v0"}  # noqa: RUF012

    env = make_vector_env(lambda masks="": Here(masks=masks), 2, vectorization="async", num_workers=2)
    assert isinstance(env, WorkerVectorEnv)
    assert env.spec.name == "here_v0"
    env.close()
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"their factory cannot be pickled .*vectorization='sync' steps them"):
        WorkerVectorEnv(lambda n: lock and Clocks(n), 1)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("", RuntimeError, r"leavers_v0 \(environments 2 to 3\): ZeroDivisionError: division by zero"),
        ("value", ValueError, r"leavers_v0 \(environments 2 to 3\): a bad value"),
        (
            "exit",
            EnvironmentExitError,
            r"leavers_v0 \(environments 2 to 3\): the environment called sys.exit\('enough'\)",
        ),
        (
            "leave",
            RuntimeError,
            r"the worker process of leavers_v0 \(environments 2 to 3\) ended with .* 3; what",
        ),
    ],
)
def test_a_failure_is_one_line_and_ends_all(how: str, kind: type[Exception], message: str) -> None:
    make = partial(ParallelVectorEnv, Fails, env_kwargs={"seed": 7, "how": how}, check=False)
    env = WorkerVectorEnv(make, 4, 2)
    env.reset(5)
    env.step(ZEROS)
    with pytest.raises(kind, match=f"^{message}") as caught:
        env.step(ZEROS)
    assert "\n" not in str(caught.value)
    if how != "leave":
        assert "worker_toys.py" in str(caught.value.__cause__)
        assert ", in fail" in str(caught.value.__cause__)
    assert not any(map(is_alive, pids(env)))
    assert env.get_state() is None
    with pytest.raises(RuntimeError, match="leavers_v0: its worker processes have ended; make the env"):
        env.step(ZEROS)
    env.close()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_is_lost_is_replaced(
    signum: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its episodes are cut at what was seen last, others begin; the other environments notice nothing."""
    monkeypatch.setattr("lit_rl.envs.workers.worker.STOPPED_S", 0.2)
    monkeypatch.setattr("lit_rl.envs.workers.worker._LOOK_S", 0.1)
    env = WorkerVectorEnv(Clocks, 4, 4)
    untouched = Clocks(4)
    seen = env.reset(0)
    untouched.reset(0)
    action = np.zeros((4, 2), np.float32)
    for _ in range(3):
        seen = env.step(action).obs
        untouched.step(action)
    os.kill(pids(env)[2], signum)
    others = [0, 1, 3]
    for t in range(3):
        step, expected = env.step(action), untouched.step(action)
        for ours, theirs in zip(leaves(step.obs), leaves(expected.obs), strict=True):
            np.testing.assert_array_equal(ours[others], theirs[others])
        for ours, theirs in zip(step[1:4], expected[1:4], strict=True):
            np.testing.assert_array_equal(ours[others], theirs[others])
        assert step.truncated.tolist() == [False, False, t == 0, False]
        if t == 0:
            assert step.reward[2] == 0
            assert not step.terminated[2]
            assert step.valid is not None
            assert not step.valid[2]  # as where a call only resets
            assert step.obs["seed"][2] == 2 + 1_000_003  # another episode than the one that was lost
            row = np.flatnonzero(step.terminated | step.truncated).tolist().index(2)
            for last, before in zip(leaves(step.final_obs), leaves(seen), strict=True):
                np.testing.assert_array_equal(last[row], before[2])
    assert env.num_lost == 1
    (record,) = caplog.records
    how = "killed by SIGKILL; memory" if signum == signal.SIGKILL else "stopped (SIGSTOP) and not woken"
    assert f"the worker process of clocks (environment 2) was {how}" in record.getMessage()
    assert "another process takes its place, and its environments begin new episodes" in record.getMessage()
    env.close()


def test_a_worker_that_is_killed_before_a_reset_is_replaced() -> None:
    env = WorkerVectorEnv(partial(ParallelVectorEnv, Leavers), 4, 4)
    expected = env.reset(3)
    os.kill(pids(env)[2], signal.SIGKILL)
    for name, leaf in env.reset(3).items():  # type: ignore[attr-defined]
        np.testing.assert_array_equal(leaf, expected[name])
    env.close()


def test_a_worker_that_is_lost_again_and_again_ends_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After waits that double."""
    monkeypatch.setattr("lit_rl.envs.workers.worker.FIRST_WAIT_S", 0.01)
    env = WorkerVectorEnv(Deadly, 2, 2)
    env.reset(0)
    for _ in range(2):
        env.step(np.zeros((2, 2), np.float32))
    first = pids(env)
    os.kill(first[1], signal.SIGKILL)
    with pytest.raises(
        RuntimeError, match=r"was killed by SIGKILL; .*; this happened 4 times in a row"
    ) as caught:
        env.step(np.zeros((2, 2), np.float32))
    assert "\n" not in str(caught.value)
    told = [record.getMessage() for record in caplog.records]
    waits = [text.partition("takes its place")[2].partition(",")[0] for text in told]
    assert waits == ["", " after 0.01 s", " after 0.02 s"]
    assert not any(map(is_alive, first))
    env.close()


def test_a_hanging_step_is_noticed_and_placed() -> None:
    make = partial(ParallelVectorEnv, Fails, env_kwargs={"seed": 7, "how": "hang"}, check=False)
    env = WorkerVectorEnv(make, 4, 2, step_timeout_s=0.5)
    env.reset(5)
    env.step(ZEROS)
    expected = (
        r"^the worker process of leavers_v0 \(environments 2 to 3\) did not answer step\(\) within "
        r"step_timeout_s = 0\.5 \(it is in fail, line \d+ of .*worker_toys\.py\); the environment hangs, or"
    )
    with pytest.raises(RuntimeError, match=expected) as caught:
        env.step(ZEROS)
    assert "\n" not in str(caught.value)
    assert "in step_shared" in str(caught.value.__cause__)
    assert not any(map(is_alive, pids(env)))
    assert env.get_state() is None
    env.close()


def test_a_worker_that_is_stopped_is_taken_to_hang() -> None:
    env = WorkerVectorEnv(Clocks, 2, 2, step_timeout_s=0.2)
    os.kill(pids(env)[0], signal.SIGSTOP)
    with pytest.raises(
        RuntimeError, match=r"clocks \(environment 0\) did not answer reset\(\) within .* = 0.2; "
    ):
        env.reset(0)
    assert not any(map(is_alive, pids(env)))


@pytest.mark.parametrize("step_timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_is_positive(step_timeout_s: float) -> None:
    with pytest.raises(ValueError, match=f"step_timeout_s must be positive, got {step_timeout_s}"):
        WorkerVectorEnv(Clocks, 2, step_timeout_s=step_timeout_s)


def test_a_worker_may_be_waited_for_without_end() -> None:
    env = WorkerVectorEnv(Clocks, 2, 1, step_timeout_s=float("inf"))
    assert env.reset(3)["seed"].tolist() == [3, 4]  # type: ignore[index]
    env.close()


def test_a_process_that_an_environment_forks_heeds_signals() -> None:
    env = make_vector_env(Forks, 2, vectorization="async", num_workers=2)
    (child,) = psutil.Process(pids(env)[0]).children()
    started = time.monotonic()
    env.close()  # an environment that waits for ever would be killed after five seconds
    assert time.monotonic() - started < 4
    assert not is_alive(child.pid)


def test_an_interrupted_step_ends_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    env = WorkerVectorEnv(
        partial(ParallelVectorEnv, Fails, env_kwargs={"seed": 0, "how": "hang"}, check=False), 2
    )
    monkeypatch.setattr("lit_rl.envs.workers.worker._PATIENCE_S", 0.1)
    env.reset(0)
    env.step(ZEROS[:2])
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(KeyboardInterrupt):
        env.step(ZEROS[:2])
    assert not any(map(is_alive, pids(env)))


def test_signals_of_terminals_and_schedulers_do_not_stop_a_worker() -> None:
    env = WorkerVectorEnv(partial(ParallelVectorEnv, Leavers), 4, 2)
    env.reset(0)
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        os.kill(pids(env)[0], signum)
        env.step(ZEROS)
    assert [os.getpgid(pid) for pid in pids(env)] == pids(env)  # Ctrl-C goes to another group
    env.close()
    env.close()


def hold(how: str, num_steps: int) -> None:
    """Make two workers, print their ids, and step, as the process of ``Forked``."""
    make = partial(ParallelVectorEnv, Fails, env_kwargs={"seed": 0, "how": how}, check=False)
    env = WorkerVectorEnv(make, 4, 2)
    sys.stdout.write(f"{pids(env)[0]} {pids(env)[1]}\n")
    sys.stdout.flush()
    env.reset(0)
    for _ in range(num_steps):
        env.step(ZEROS)
    time.sleep(600)


@pytest.mark.parametrize("how", ["", pytest.param("hang", marks=pytest.mark.slow)])
def test_workers_end_when_the_trainer_is_killed(how: str, tmp_path: Path) -> None:
    trainer = Forked(hold, how, 2 if how else 1, cwd=tmp_path, log=tmp_path / "log")
    wait_until(lambda: trainer.output().endswith("\n"), 30, trainer.output)
    workers = list(map(int, trainer.output().split()))
    assert len(workers) == 2
    assert all(map(is_alive, workers))
    os.kill(trainer.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, workers)), 20, lambda: f"{workers} are left")
    trainer.kill()


def test_failures_at_the_start() -> None:
    with pytest.raises(TypeError, match=r"environments 0 to 1: make must return a VectorEnv, got int"):
        WorkerVectorEnv(int, 4, 2)
    with pytest.raises(ValueError, match=r"environment 0: make\(1\) returned 2 environments"):
        WorkerVectorEnv(partial(Clocks, wrong=1), 2, 2)
    with pytest.raises(
        ValueError, match=r"leavers_v0 \(environments 1 to 2\) differ from the first: EnvSpec"
    ):
        WorkerVectorEnv(lambda n: ParallelVectorEnv(Leavers, n, {"has_state": n > 1}), 3, 2)
    for num_workers in (0, 5):
        expected = f"num_workers must be between 1 and num_envs=4, got {num_workers}; a worker"
        with pytest.raises(ValueError, match=expected):
            WorkerVectorEnv(Clocks, 4, num_workers)
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        WorkerVectorEnv(Clocks, 0)


def test_a_worker_per_core_by_default() -> None:
    env = WorkerVectorEnv(Clocks, 3)
    assert len(pids(env)) == min(3, allowed_cores())
    env.close()


@pytest.mark.parametrize("env", [Saves, "CartPole-v1"])
def test_a_worker_does_without_torch(env: Any) -> None:
    made: Any = make_vector_env(env, 2, vectorization="async", num_workers=1)
    made.reset(0)
    state = made.get_state()
    made.set_state(state)
    assert made.unknown_class is None
    maps = Path(f"/proc/{pids(made)[0]}/maps").read_text()
    made.close()
    assert state is not None
    assert "libtorch" not in maps  # 180 MB and a second each


def test_make_vector_env_divides_environments_of_several_agents() -> None:
    env: Any = make_vector_env(
        Leavers, 3, vectorization="async", num_workers=2, record=["height"], check=True
    )
    assert isinstance(env, WorkerVectorEnv)
    env.reset(0)
    assert env.step(ZEROS[:3]).metrics["height"].tolist() == [10, 10, 10]
    env.close()
    batch = make_vector_env(
        partial(ParallelVectorEnv, Leavers, team_reward=True), 3, vectorization="async", num_workers=3
    )
    assert isinstance(batch, WorkerVectorEnv)
    batch.reset(0)
    assert batch.step(ZEROS[:3]).reward.tolist() == [10, 10, 10]
    batch.close()
    filmed: Any = make_vector_env(Leavers, 1, vectorization="async", render=True)
    filmed.reset(0)
    filmed.step(ZEROS[:1])
    assert filmed.frame().shape == (4, 5, 3)
    assert filmed.frame().max() == 1
    filmed.close()


def test_a_broken_environment_is_refused_before_a_worker_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Boxed(Leavers):
        def step(self, actions: dict[str, Any]) -> Any:
            obs, rewards, *rest = super().step(actions)
            return obs, {agent: np.ones(1) for agent in rewards}, *rest

    monkeypatch.setattr("lit_rl.envs.vector.WorkerVectorEnv", None)
    with pytest.raises(
        ValueError, match=r"^leavers_v0: reward of agent a of step is a numpy array of shape \(1,\)"
    ):
        make_vector_env(Boxed, 4, vectorization="async", check=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vectorization": "sync"}, "num_workers=2 needs vectorization='async', got vectorization='sync'"),
        ({}, "num_workers=2 needs vectorization='async', got vectorization='auto'"),
    ],
)
def test_workers_where_there_are_none(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_vector_env(Leavers, 4, num_workers=2, **arguments)
    assert "\n" not in str(caught.value)
    message = message.replace("num_workers=2", "step_timeout_s=1.5")
    with pytest.raises(ValueError, match=message):
        make_vector_env(Leavers, 4, step_timeout_s=1.5, **arguments)


def test_a_random_policy_collects() -> None:
    make = partial(ParallelVectorEnv, Uneven)
    rollouts = []
    for env in (make(4), WorkerVectorEnv(make, 4, 2)):
        torch.manual_seed(0)
        collector = InlineCollector(env, 0)
        rollouts.append(collector.collect(UniformPolicy(env.spec), 9, 0))
        collector.close()
    alone, workers = rollouts
    for field in ("final_index", "action", "reward", "terminated"):
        assert torch.equal(alone[field], workers[field])
    for key, leaf in alone["final_obs"].items():
        assert torch.equal(leaf, workers["final_obs"][key])
