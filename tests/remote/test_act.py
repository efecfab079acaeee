"""``lit-rl act``: what it needs, what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from lit_rl.cli.act import REFUSED, TIMED_OUT, act, make_env, read_data
from lit_rl.cli.errors import CommandError
from lit_rl.remote.policy import policy_frame
from lit_rl.remote.receiver import Receiver
from lit_rl.remote.server import LearnerServer
from lit_rl.remote.service import spec_text
from tests.remote.toys import DESCRIPTION, arrays_of, eventually

ROOT = Path(__file__).parents[2]
CONFIG = """\
data:
  class_path: ReplayDataModule
  init_args: {env: Pendulum-v1, num_envs: 2, steps_per_batch: 8}
seed_everything: 7
"""


class PendulumLearner:
    """Takes what actors of ``CONFIG`` play."""

    def __init__(self, port: int = 0, num_envs: int = 2) -> None:
        env = make_env({"env": "Pendulum-v1", "num_envs": num_envs})
        spec = env.spec
        env.close()
        self.server = LearnerServer(
            spec_text(spec.to_dict()), "run", 8, num_envs, 4, 2, "127.0.0.1", port
        )  # fmt: skip
        self.receiver = Receiver(self.server, spec, num_envs, 8, 4)
        self.receiver.publish(0, DESCRIPTION, arrays_of(features=3))

    def take(self, num_steps: int, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while self.receiver.inserted_steps < num_steps:
            assert time.monotonic() < deadline
            self.receiver.grant(num_steps, 0)
            self.receiver.take(0.05)


@pytest.fixture
def learner() -> Iterator[PendulumLearner]:
    made = PendulumLearner()
    yield made
    made.server.close()


class Acting:
    """``lit-rl act`` in a process of its own."""

    def __init__(self, folder: Path, port: int, *argv: str) -> None:
        (folder / "act.yaml").write_text(CONFIG)
        command = [
            sys.executable, "-m", "lit_rl", "act", "--config", "act.yaml", "--connect", f"127.0.0.1:{port}",
            "--name", "robot", *argv,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def end(self, timeout_s: float = 30.0) -> tuple[int, str]:
        _, error = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, error


@pytest.fixture
def acting(tmp_path: Path) -> Iterator[Any]:
    started: list[Acting] = []

    def start(port: int, *argv: str) -> Acting:
        started.append(Acting(tmp_path, port, *argv))
        return started[-1]

    yield start
    for found in started:
        if found.process.poll() is None:
            found.process.kill()
        found.process.communicate()


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def test_an_actor_plays_until_its_learner_has_ended(learner: PendulumLearner, acting: Any, tmp_path: Path):
    actor = acting(learner.server.port, "--log_dir", "logs")
    learner.take(16 * 30)
    learner.server.close(is_over=True)
    code, error = actor.end()
    assert code == 0, error
    assert "the learner has ended" in error
    assert "Traceback" not in error
    rows = (tmp_path / "logs" / "actor_robot.csv").read_text().splitlines()
    assert rows[0].startswith("actor/episode_reward,")


def test_a_killed_actor_is_followed_by_another_and_a_frozen_one_loses_its_place(
    learner: PendulumLearner, acting: Any
):
    first = acting(learner.server.port)
    learner.take(64)
    os.kill(first.process.pid, signal.SIGKILL)
    eventually(lambda: not learner.server.live(), 3.0)
    before = learner.receiver.inserted_steps
    second = acting(learner.server.port)
    learner.take(before + 16 * 8)
    assert learner.server.num_joined == 2
    os.kill(second.process.pid, signal.SIGSTOP)
    start = time.monotonic()
    eventually(lambda: not learner.server.live(), 10.0)
    assert time.monotonic() - start < 10.0
    os.kill(second.process.pid, signal.SIGCONT)  # it comes back: it was only slow
    learner.take(learner.receiver.inserted_steps + 64)
    os.kill(second.process.pid, signal.SIGTERM)
    code, error = second.end()
    assert code == 143, error
    assert "Traceback" not in error


def test_ctrl_c_ends_an_actor_that_waits_for_its_learner(acting: Any):
    actor = acting(free_port())
    time.sleep(1.5)
    os.kill(actor.process.pid, signal.SIGINT)
    start = time.monotonic()
    code, error = actor.end()
    assert code == 130, error
    assert time.monotonic() - start < 5.0
    assert "Traceback" not in error


def test_without_a_learner_it_gives_up_with_3_when_asked_to(acting: Any):
    code, error = acting(free_port(), "--connect_timeout", "0.5").end()
    assert code == TIMED_OUT, error
    assert "--connect_timeout 0.5: no learner was found in that time; start lit-rl fit with" in error
    assert "Traceback" not in error


def test_a_learner_that_refuses_ends_it_with_4(acting: Any):
    learner = PendulumLearner(num_envs=3)
    try:
        code, error = acting(learner.server.port).end()
        assert code == REFUSED, error
        assert (
            "the learner does not take robot: the actor steps 2 environments, the learner expects 3" in error
        )
        assert "Traceback" not in error
    finally:
        learner.server.close()


WATCH = """\
import sys, time
import socket
from threading import Thread
listener = socket.create_server(("127.0.0.1", 0))
seen = []
def wait():
    listener.accept()
    seen.append(time.process_time())
    with open("/proc/self/status") as file:
        rss = [int(line.split()[1]) for line in file if line.startswith("VmRSS")][0]
    print(seen[0], rss / 1024, sorted({"torch", "lightning", "numba", "scipy", "pandas"} & set(sys.modules)))
thread = Thread(target=wait)
thread.start()
from lit_rl.cli.act import act
while not seen:  # on a busy machine half a second may pass before it connects
    try:
        act(["--config", "act.yaml", "--connect", f"127.0.0.1:{listener.getsockname()[1]}",
             "--connect_timeout", "0.5"])
    except Exception:
        pass
thread.join()
"""


@pytest.mark.parametrize("env", ["Pendulum-v1", "GO2-v0"])
def test_it_imports_no_torch_starts_within_a_second_and_is_small(tmp_path: Path, env: str):
    """A second of the processor, to the first connection: other tests run beside this one."""
    (tmp_path / "act.yaml").write_text(f"data: {{init_args: {{env: {env}}}}}")
    done = subprocess.run(
        [sys.executable, "-c", WATCH], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    seconds, megabytes, heavy = done.stdout.split(" ", 2)
    assert heavy.strip() == "[]"
    assert float(megabytes) < 100
    assert float(seconds) < 1.0


def test_nothing_of_it_listens(learner: PendulumLearner, acting: Any):
    actor = acting(learner.server.port)
    learner.take(16)
    connections = psutil.Process(actor.process.pid).net_connections("tcp")
    assert [c for c in connections if c.status == psutil.CONN_LISTEN] == []


# The command line


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ((), "the following arguments are required: --config"),
        (("--config", "act.yaml", "--rate_hz", "0"), "must be above 0, got 0"),
        (("--config", "act.yaml", "--spool_mb", "x"), "must be a number, got 'x'"),
        (("--config", "act.yaml", "--max_steps", "1.5"), "must be a whole number, at least 1, got '1.5'"),
        (("--config", "act.yaml", "--swap", "never"), "invalid choice: 'never'"),
        (("--config", "act.yaml", "--model.gamma", "1"), "--model.gamma: an actor has only data.* and seed_"),
        (("--config", "act.yaml", "--seed_everything"), "--seed_everything: expected --data.KEY VALUE"),
        (("--config", "list.yaml",), "expected keys such as model, data and budget, got a list"),
        (("--config", "empty.yaml",), "the configuration has no data.env; give --config with the one of the"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_is_refused(
    argv: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("act.yaml").write_text(CONFIG)
    Path("list.yaml").write_text("[1]")
    Path("empty.yaml").write_text("model: {}")
    with pytest.raises(CommandError) as error:
        act(argv)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_beyond_this_machine_it_needs_token_and_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("act.yaml").write_text(CONFIG)
    with pytest.raises(ValueError, match=r"--connect = 10\.0\.0\.2 is reached by other machines"):
        act(["--config", "act.yaml", "--connect", "10.0.0.2"])


def test_later_configurations_and_arguments_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("act.yaml").write_text(CONFIG)
    Path("more.yaml").write_text("data: {init_args: {env_kwargs: {g: 9.0}}}")
    overrides = ["--data.init_args.env_kwargs.g", "8.5", "--data.num_envs=4", "--data.capacity", "9"]
    data, seed = read_data(["act.yaml", "more.yaml"], overrides)
    assert data == {"env": "Pendulum-v1", "num_envs": 4, "steps_per_batch": 8, "env_kwargs": {"g": 8.5}}
    assert seed == 7
    assert read_data(["act.yaml"], ["--seed_everything", "3"])[1] == 3


def test_policy_frames_are_plain_bytes():
    assert b"torch" not in policy_frame(0, DESCRIPTION, arrays_of()).encode()
