"""``lit-rl async``: what it starts, what it starts again, and what it leaves behind."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from lit_rl.cli.supervisor import child
from lit_rl.cli.supervisor.child import Child
from lit_rl.cli.supervisor.plan import make_plan
from lit_rl.cli.supervisor.supervise import Supervisor
from tests.processes import is_alive, wait_until

BASE = ["--config", "sac_pendulum"]


def value(argv: list[str], option: str) -> str:
    return argv[argv.index(option) + 1]


# Command lines


def test_learner_gets_everything_and_actors_get_what_concerns_environments(cwd: Path):
    plan = make_plan([*BASE, "--model.hidden", "[8]", "--data.env_kwargs.g", "9.8", "--seed_everything=3"])
    assert plan.learner == [
        "--config", "sac_pendulum", "--config", "data/remote", "--model.hidden", "[8]",
        "--data.env_kwargs.g", "9.8", "--seed_everything=3",
    ]  # fmt: skip
    assert plan.actor == [
        "--config", "sac_pendulum", "--config", "data/remote", "--connect", "127.0.0.1:5488",
        "--data.env_kwargs.g", "9.8", "--seed_everything", "3",
    ]  # fmt: skip
    run = Path("runs/x")
    assert plan.learner_of(run)[-2:] == ["--run_dir", "runs/x"]
    assert plan.actor_of(run, 2)[-4:] == ["--name", "actor-2", "--log_dir", "runs/x/actors"]


def test_options_of_actors_reach_actors_only(cwd: Path):
    plan = make_plan([*BASE, "--actors", "6", "--rate_hz", "50", "--realtime", "--seed_everything", "1"])
    assert plan.num_actors == 6
    assert value(plan.learner, "--data.max_actors") == "6"  # four would be admitted otherwise
    assert value(plan.actor, "--rate_hz") == "50"
    assert "--realtime" in plan.actor
    assert not {"--rate_hz", "--realtime", "--actors"} & set(plan.learner)


def test_both_sides_know_a_seed_and_a_port_that_were_left_open(cwd: Path):
    plan = make_plan([*BASE, "--data.port", "0"])
    assert value(plan.learner, "--seed_everything") == value(plan.actor, "--seed_everything")
    port = plan.learner[len(plan.learner) - plan.learner[::-1].index("--data.port")]  # the last one counts
    assert value(plan.actor, "--connect") == f"127.0.0.1:{port}"
    assert int(port) > 0


def test_an_actor_here_trusts_a_learner_that_others_reach(cwd: Path):
    data = {"host": "0.0.0.0", "token": "t", "certificate": "c", "key": "k"}
    tokens = [token for name, text in data.items() for token in (f"--data.{name}", text)]
    plan = make_plan([*BASE, *tokens])
    assert value(plan.actor, "--connect") == "127.0.0.1:5488"
    assert (value(plan.actor, "--token"), value(plan.actor, "--certificate")) == ("t", "c")
    assert "--key" not in plan.actor


@pytest.mark.parametrize("has_checkpoint", [False, True])
def test_a_lost_learner_goes_on_in_its_own_directory(cwd: Path, has_checkpoint: bool):
    """``--ckpt_path last`` begins a run again that has no checkpoint yet (tests/cli/test_command.py)."""
    supervisor = Supervisor(make_plan([*BASE, "--seed_everything", "1"]), ["--debug"])
    run = supervisor.run_directory
    first = supervisor._learner_arguments()
    assert value(first, "--run_dir") == str(run)
    for name in ("config.yaml", "versions.json", *(["checkpoints/last.ckpt"] if has_checkpoint else [])):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    again = supervisor._learner_arguments()
    assert again == ["fit", "--config", str(run / "config.yaml"), "--ckpt_path", "last", "--debug"]
    assert supervisor.run_directory == run


def test_a_system_with_its_own_data_module_gets_no_layer(cwd: Path):
    plan = make_plan(["--config", "systems/go2_async"])
    assert "data/remote" not in plan.learner
    assert plan.name == "go2_async"


def test_a_run_is_gone_on_with_in_its_own_directory(cwd: Path):
    (cwd / "runs/a/b/checkpoints").mkdir(parents=True)
    (cwd / "runs/a/b/config.yaml").write_text(
        "seed_everything: 5\ndata: {class_path: RemoteReplayDataModule}\n"
    )
    plan = make_plan(["--config", "runs/a/b/config.yaml", "--ckpt_path", "last"])
    assert plan.resumed == Path("runs/a/b")
    assert plan.learner_of(plan.make_run_directory()) == [
        "fit", "--config", "runs/a/b/config.yaml", "--ckpt_path", "last",
    ]  # fmt: skip
    assert (plan.name, plan.seed) == ("a", 5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--actors", "0"], "argument --actors: must be a whole number, at least 1, got '0'"),
        (["--print_config"], "--print_config: lit-rl async trains; give it to lit-rl fit"),
        (["--connect", "x:1"], "--connect: the actors of lit-rl async play here"),
        (["--data.port", "x"], "data.port must be a whole number from 0 to 65535, got 'x'"),
        (["--model.hidden"], "--model.hidden: expected --data.KEY VALUE; see lit-rl async --help"),
        (["--wandb", "online"], "the last callback of the configuration must be WandbRun"),
    ],
)
def test_a_wrong_command_line_is_one_line(error, argv, message):
    assert message in error(2, "async", *BASE, *argv)


def test_a_busy_port_is_one_line_before_anything_is_started(error, cwd: Path):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        message = error(2, "async", *BASE, "--data.port", str(port))
    assert message.startswith(f"port {port} of 127.0.0.1 cannot be used (Address already in use)")
    assert not (cwd / "runs").exists()


# Processes that are started again


def run_to_its_end(process: Child) -> int:
    process.start()
    try:
        wait_until(lambda: process.tend() is not None, 30, lambda: process.label)
    finally:
        process.kill()
    assert process.exit_code is not None
    return process.exit_code


def test_each_line_says_whose_it_is(capfd: pytest.CaptureFixture[str]):
    assert run_to_its_end(Child("learner", lambda: ["--version"], lambda code: code != 0)) == 0
    assert "[learner] lit-rl " in capfd.readouterr().out


def test_what_is_lost_is_started_again_three_times(monkeypatch: pytest.MonkeyPatch, caplog, capfd):
    monkeypatch.setattr(child, "PAUSES_S", (0.0, 0.01, 0.02))
    caplog.set_level("WARNING", "lit_rl")
    process = Child("actor-1", lambda: ["nonsense"], lambda code: code == 2)
    assert run_to_its_end(process) == 2
    assert [record.getMessage() for record in caplog.records] == [
        "actor-1 was lost (exit status 2); it is started again in 0 s",
        "actor-1 was lost (exit status 2); it is started again in 0.01 s",
        "actor-1 was lost (exit status 2); it is started again in 0.02 s",
        "actor-1 was lost 4 times in a row, and is given up",
    ]
    assert capfd.readouterr().err.count("[actor-1] lit-rl: error: expected a command") == 4


def test_a_loss_after_a_steady_time_is_the_first_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "PAUSES_S", (0.0,))
    monkeypatch.setattr(child, "STEADY_S", 0.0)
    process = Child("actor-1", lambda: ["nonsense"], lambda code: True)
    process.start()
    for _ in range(2):
        first = process.pid
        wait_until(lambda: process.tend() or process.pid not in (first, None), 30, str)  # noqa: B023
        assert process.num_losses == 1
    process.kill()


def test_what_ends_for_a_good_reason_stays_ended():
    process = Child("actor-1", lambda: ["nonsense"], lambda code: code < 0)
    assert run_to_its_end(process) == 2
    assert process.num_losses == 1


# Everything together

SMALL = [
    "--data.port", "0", "--data.updates_per_step", "0.0625", "--data.batch_size", "16",
    "--data.warmup_steps", "200", "--data.batches_per_epoch", "5", "--model.hidden", "[8]",
    "--trainer.limit_val_batches", "0",
]  # fmt: skip


@contextlib.contextmanager
def asynchronous(cwd: Path, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "lit_rl", "async", *BASE, *SMALL, "--run_dir", "run", *argv]
    root = str(Path(__file__).parents[2])
    with (cwd / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=cwd, env={**os.environ, "PYTHONPATH": root}
        )
    children = []
    try:
        wait_until((cwd / "run/checkpoints/last.ckpt").exists, 120, (cwd / "log").read_text)
        children = psutil.Process(process.pid).children()
        yield process
    finally:
        process.kill()
        process.wait()
        for left in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()


def started(process: subprocess.Popen[bytes]) -> dict[str, int]:
    found = {}
    for one in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):
            found |= {name: one.pid for name in ("fit", "act") if name in one.cmdline()}
    return found


def num_rows(cwd: Path) -> int:
    return len((cwd / "run/metrics.csv").read_text().splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL"])
def test_both_sides_are_killed_and_go_on_and_nothing_is_left(tmp_path: Path, end: str):
    told = (tmp_path / "log").read_text
    with asynchronous(tmp_path, "--budget.total_env_steps", "1000000") as process:
        for name in ("act", "fit"):
            killed = started(process)[name]
            os.kill(killed, signal.SIGKILL)
            wait_until(lambda: started(process).get(name, killed) != killed, 30, told)  # noqa: B023
            rows = num_rows(tmp_path)
            wait_until(lambda: num_rows(tmp_path) > rows + 5, 120, told)  # noqa: B023
        children = list(started(process).values())
        process.send_signal(getattr(signal, end))
        assert process.wait(120) == (143 if end == "SIGTERM" else -signal.SIGKILL)
        wait_until(lambda: not any(map(is_alive, children)), 60, told)
    assert '"state": "interrupted"' in (tmp_path / "run/process.json").read_text()
    assert "actor-1 was lost (killed by signal 9)" in told()
    assert "learner was lost (killed by signal 9)" in told()
