"""Workers that are killed, stopped, or fail, and what a collector makes of it."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_rl.collect.inline import InlineCollector
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.envs.vector import batch_fn, make_vector_env
from lit_rl.nested import map_nested
from lit_rl.types import Decision, Nested
from tests.forked import ForkedProcess
from tests.processes import Forked, is_alive, wait_until
from tests.toys import Episodes57
from tests.worker_toys import Steps


class Zero:
    """Always takes action 0."""

    def initial_carry(self, num_envs: int) -> Nested:
        return {}

    def act(self, obs: Nested, carry: Nested, reset: torch.Tensor, *, greedy: bool = False) -> Decision:
        return Decision(torch.zeros(len(reset), dtype=torch.int64), {}, {})


def shared_memory() -> set[str]:
    """Open files of this process that are memory of workers, by their numbers."""
    files = (file for file in Path("/proc/self/fd").iterdir() if file.is_symlink())
    return {file.name for file in files if "memfd:lit_rl" in str(file.readlink())}


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test leaves a process or shared memory; waits are short."""
    monkeypatch.setattr("lit_rl.envs.workers.worker.FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("lit_rl.envs.workers.worker.STOPPED_S", 0.2)
    monkeypatch.setattr("lit_rl.envs.workers.worker._LOOK_S", 0.1)
    monkeypatch.setattr("lit_rl.envs.workers.worker._PATIENCE_S", 0.5)
    ForkedProcess.started.clear()
    before = shared_memory()  # a failed fit of another test may hold that of its last step
    yield
    if shared_memory() - before:
        gc.collect()
    assert not [process.pid for process in ForkedProcess.started if process.poll() is None]
    assert shared_memory() - before == set()


class KillsItself(Steps):
    """Kills its process in its step number ``at`` (or fails), so often over all processes together."""

    def __init__(self, log: str, at: int, times: int, how: str = "kill") -> None:
        super().__init__()
        self.log, self.at, self.times, self.how = Path(log), at, times, how

    def step(self, action: int) -> Any:
        if self.done == self.at and self._claim():
            if self.how == "nan":
                return np.array([np.nan], np.float32), 1.0, False, False, {}
            if self.how == "raise":
                raise ZeroDivisionError("division by zero")
            os.kill(os.getpid(), signal.SIGSTOP if self.how == "stop" else signal.SIGKILL)
        return super().step(action)

    def _claim(self) -> bool:
        for i in range(self.times):
            with suppress(FileExistsError):
                self.log.with_suffix(f".{i}").touch(exist_ok=False)
                return True
        return False


def collector(env: Any, num_envs: int = 4, workers: int = 2, **env_kwargs: Any) -> WorkersCollector:
    return WorkersCollector(batch_fn(env, env_kwargs=env_kwargs), num_envs, 0, workers)


def shifted(log: Path, **kwargs: Any) -> Any:
    """Only the environments of one worker fail: each worker makes its copies with a file of its own."""
    return {"log": str(log), **kwargs}


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_worker_that_is_lost_while_it_writes_is_replaced(how: str, tmp_path: Path):
    """Its part is collected anew, so that the rollout is whole; counters and the log say what happened."""
    made = collector(KillsItself, **shifted(tmp_path / "log", at=7, times=1, how=how))
    first = made.collect(Zero(), 5, 0)
    assert first["obs"].shape == (6, 4, 1)
    second = made.collect(Zero(), 5, 1)
    assert made.workers.num_lost == made.workers.num_reclaimed == 1
    assert second["collector"]["collector/restarts"] == 1
    assert second["collector"]["collector/reclaimed"] == 1
    begun = second["reset"][0].tolist()  # all episodes of Steps have five steps: both began one
    assert begun == [True] * 4
    torch.testing.assert_close(second["obs"][:5, :, 0], torch.arange(5.0)[:, None].expand(5, 4))
    assert second["episodes"]["env_index"].tolist() == [0, 1, 2, 3]
    assert second["episodes"]["episode_length"].tolist() == [5] * 4
    assert second["policy_version"] == 1
    third = made.collect(Zero(), 5, 2)
    assert made.workers.num_lost == 1
    assert third["new_steps"] == 20
    made.close()


def test_the_part_of_the_other_worker_is_not_touched():
    """What comes of it is what an undisturbed run gives."""
    made, inline = collector(Episodes57), InlineCollector(make_vector_env(Episodes57, 4), 0)
    for t in range(6):
        if t in (2, 4):
            os.kill(made.workers.pids[1], signal.SIGKILL)
        ours, theirs = made.collect(Zero(), 6, t), inline.collect(Zero(), 6, t)
        for key in ("obs", "reset", "action", "reward", "terminated", "truncated"):
            assert torch.equal(ours[key][:, :2], theirs[key][:, :2]), key  # type: ignore[literal-required]
        of_ours = ours["episodes"]["env_index"] < 2
        of_theirs = theirs["episodes"]["env_index"] < 2
        for key in ("episode_return", "episode_length", "end_step"):
            assert torch.equal(ours["episodes"][key][of_ours], theirs["episodes"][key][of_theirs])
    assert made.workers.num_lost == 2
    assert made.get_state()["restarts"] == 2
    made.close()


def test_a_worker_that_is_lost_again_and_again_ends_the_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    made = collector(KillsItself, **shifted(tmp_path / "log", at=0, times=99))
    with pytest.raises(RuntimeError, match=r"was killed by SIGKILL; .* 4 times in a row") as caught:
        made.collect(Zero(), 5, 0)
    assert "\n" not in str(caught.value)
    waits = [
        record.getMessage().partition("takes its place")[2].partition(",")[0]
        for record in caplog.records
        if "environments 0 to 1" in record.getMessage()
    ]
    assert waits == ["", " after 0.01 s", " after 0.02 s"]
    assert made.get_state()["env"] is None  # what a checkpoint of the end holds
    with pytest.raises(RuntimeError, match="the worker processes have ended"):
        made.collect(Zero(), 5, 0)
    made.close()


def test_an_environment_that_fails_ends_the_run_with_its_traceback(tmp_path: Path):
    made = collector(KillsItself, **shifted(tmp_path / "log", at=3, times=1, how="raise"))
    message = r"KillsItself \(environments [02] to [13]\): ZeroDivisionError: division by zero"
    with pytest.raises(RuntimeError, match=message) as caught:
        made.collect(Zero(), 5, 0)
    assert 'raise ZeroDivisionError("division by zero")' in str(caught.value.__cause__)
    made.close()


def test_values_that_are_not_finite_name_step_and_environment(tmp_path: Path):
    made = collector(KillsItself, 4, 2, **shifted(tmp_path / "log", at=3, times=1, how="nan"))
    with pytest.raises(FloatingPointError, match=r"the environment returned: obs_TNO is nan at step 4, env"):
        made.collect(Zero(), 5, 0)
    made.close()


def test_a_step_that_takes_too_long_is_named(monkeypatch: pytest.MonkeyPatch):
    from tests.worker_toys import HangsAt

    made = WorkersCollector(batch_fn(HangsAt, env_kwargs={"at": 3}), 2, 0, 2, step_timeout_s=0.5)
    message = (
        r"HangsAt \(environment 0\) did not answer fill\(\) within step_timeout_s = 0\.5 \(it is in step"
    )
    started = time.monotonic()
    with pytest.raises(RuntimeError, match=message):
        made.collect(Zero(), 5, 0)
    assert time.monotonic() - started < 10
    made.close()


class Slow(Steps):
    """A step takes 0.1 s."""

    def step(self, action: int) -> Any:
        time.sleep(0.1)
        return super().step(action)


def test_a_rollout_may_take_longer_than_a_step():
    """The signs of life of every step count."""
    made = WorkersCollector(batch_fn(Slow), 2, 0, 2, step_timeout_s=0.4)
    assert made.collect(Zero(), 9, 0)["new_steps"] == 18
    made.close()


@pytest.mark.parametrize("way", ["free", "refused"])
def test_no_memory_is_one_line(way: str, monkeypatch: pytest.MonkeyPatch):
    made = collector(Episodes57)
    if way == "free":
        monkeypatch.setattr("lit_rl.collect.workers.buffer._available_bytes", lambda: 2**12)
    else:

        def refuse(*_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.posix_fallocate", refuse)
    why = "0.0 MiB of memory are free" if way == "free" else "the system refuses (No space left on device)"
    with pytest.raises(MemoryError) as caught:
        made.collect(Zero(), 50, 0)
    text = str(caught.value)
    assert text.startswith(
        "the shared experience buffer needs 0.0 MiB for 1 rollout(s) of 4 environments, but"
    )
    assert why in text
    assert text.endswith("fewer num_envs or rollout_steps need less")
    made.close()


def hold() -> None:
    """Collect for ever in two workers, whose ids are printed."""
    made = collector(Steps)
    sys.stdout.write("{} {}\n".format(*made.workers.pids))
    sys.stdout.flush()
    while True:
        made.collect(Zero(), 50, 0)


def test_workers_end_when_the_trainer_is_killed(tmp_path: Path):
    """One of them even though it was stopped."""
    trainer = Forked(hold, cwd=tmp_path, log=tmp_path / "log")
    wait_until(lambda: trainer.output().endswith("\n"), 60, trainer.output)
    workers = list(map(int, trainer.output().split()))
    assert all(map(is_alive, workers))
    os.kill(workers[1], signal.SIGSTOP)
    os.kill(trainer.pid, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, workers)), 20, lambda: f"{workers} are left")
    trainer.kill()


@pytest.mark.slow
def test_fifty_kills_at_any_moment():
    """No rollout is missing or incomplete, and none takes long."""
    made = collector(Slow20, 4, 2)
    kills, rng, is_over = 0, random.Random(0), threading.Event()

    def kill() -> None:
        nonlocal kills
        while kills < 50 and not is_over.wait(rng.uniform(0.1, 0.6)):
            victims = made.workers.pids
            if len(victims) == 2:
                os.kill(rng.choice(victims), rng.choice([signal.SIGKILL, signal.SIGSTOP]))
                kills += 1

    killer = threading.Thread(target=kill)
    killer.start()
    longest, rollouts = 0.0, 0
    while killer.is_alive() or rollouts < 50:
        started = time.monotonic()
        rollout = made.collect(Zero(), 10, rollouts)
        longest, rollouts = max(longest, time.monotonic() - started), rollouts + 1
        assert rollout["new_steps"] == 40
        assert not map_nested(torch.isnan, rollout["obs"]).any()
        assert rollout["policy_version"] == rollouts - 1
    is_over.set()
    killer.join()
    assert kills == 50
    assert 30 <= made.workers.num_lost <= 50  # a process may have been hit twice
    assert longest < 30
    made.close()


class Slow20(Steps):
    """A step takes 2 ms, so that a rollout takes 20 or 40."""

    def step(self, action: int) -> Any:
        time.sleep(0.002)
        return super().step(action)
