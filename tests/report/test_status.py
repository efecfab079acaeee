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
