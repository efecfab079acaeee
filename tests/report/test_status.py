import json
import os

import pytest

from lit_rl.report.process import create_time
from lit_rl.report.status import describe_run
from tests.report.conftest import process_json

NOW = 2_000_000_000.0


@pytest.fixture
def aged(make_run):
    """A run whose files were all written at 2,000,000,000 s."""

    def make(**kwargs):
        path = make_run("a", **kwargs)
        (path / "checkpoints" / "best.ckpt").touch()
        (path / "checkpoints" / "last.ckpt").touch()
        for file in path.rglob("*"):
            os.utime(file, (NOW, NOW))
        os.utime(path / "checkpoints" / "best.ckpt", (NOW - 500, NOW - 500))
        return path

    return make


def test_running(aged):
    process = process_json("running", create_time=create_time(os.getpid()), total_env_steps=2408)
    path = aged(process=process)
    folder = path / "network_loss_logs" / "a_loss_log"
    folder.mkdir(parents=True)
    counts = {"offered": 9, "written": 8, "dropped": 1, "invalid": 0}
    recorder = {"state": "running", "heartbeat": NOW + 3, **counts}
    (folder / "recorder.json").write_text(json.dumps(recorder))
    assert describe_run(path, NOW + 5).splitlines() == [
        str(path),
        f"  state       running, process {os.getpid()}, last write 5 s ago",
        "  env steps   400 of 2408 (16.6%), about 2 s left",
        "  return      training 14, evaluation 40 at 400 env steps",
        "  speed       1004 env steps/s",
        "  policy      version 4",
        "  checkpoint  last.ckpt, 5 s ago",
        "  recorder    running, heartbeat 2 s ago; records: 9 offered, 8 written, 1 dropped, 0 invalid",
    ]


def test_crashed_before_its_first_episode(aged):
    path = aged(process=process_json("running", create_time=1.0), rows=["100,,0.5,,1,", "200,"])
    assert describe_run(path, NOW + 180).splitlines()[1:] == [
        f"  state       crashed, process {os.getpid()} is gone, last write 3.0 min ago",
        "  env steps   100 of 400 (25.0%)",
        "  policy      version 1",
        "  checkpoint  last.ckpt, 3.0 min ago",
        "  damaged     metrics.csv: 1 incomplete line left out",
    ]


def test_nothing_but_a_start(make_run):
    path = make_run("a", process=process_json("failed", exit_code=1))
    for name in ("metrics.csv", "versions.json"):
        (path / name).unlink()
    (path / "config.yaml").write_text("{")
    lines = describe_run(path).splitlines()[1:]
    assert lines == [
        "  state       failed, exit status 1",
        "  env steps   0 of 400 (0.0%)",
        "  checkpoint  none",
        "  damaged     config.yaml is damaged",
    ]


def test_learner_and_actors(make_run):
    head = "step,learner/actors,learner/utd,learner/policy_lag,learner/missing_steps,learner/rejected"
    path = make_run("a", process=process_json(), head=head, rows=["100,1,3.5,2,0,0", "200,2,3.98,1.5,0,1"])
    (path / "actors").mkdir()
    names = "actor/total_steps,actor/avg_episode_reward_10"
    for name, rows in (("actor-1", "50,1.5\n90,2.5\n99"), ("actor-2", "")):
        file = path / "actors" / f"actor_{name}.csv"
        file.write_text(f"{names}\n{rows}")
        os.utime(file, (NOW, NOW))
    lines = dict(line.strip().split("  ", 1) for line in describe_run(path, NOW + 5).splitlines()[1:])
    assert lines["actors"].strip() == (
        "2 were connected, 3.98 updates per env step, 1.5 versions behind, 0 env steps missing, "
        "1 frames rejected"
    )
    assert lines["played"].strip() == "actor-1 90 env steps, return 2.5 over 10 episodes, 5 s ago"
