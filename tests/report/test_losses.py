import json

import pytest

from lit_rl.callbacks.recorder.session import COUNTS as RECORDER_COUNTS
from lit_rl.report.losses import COUNTS, read_losses, read_recorders
from lit_rl.report.runs import read_run
from lit_rl.report.tables import Table

HEAD = "step,timestamp,source"


@pytest.fixture
def log(tmp_path):
    """``log("ppo_losses.csv", lines...)`` writes a file of the loss log of the run ``tmp_path``."""
    folder = tmp_path / "network_loss_logs" / "x_loss_log"
    folder.mkdir(parents=True)

    def write(name, *lines):
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
        return folder

    return write


def losses_of(run):
    found = read_losses(run, Table())
    return {(loss.network, loss.name): loss.series.values.tolist() for loss in found.losses}


def test_segments_of_a_network_are_one_curve(log, tmp_path):
    log("ppo_losses.csv", f"{HEAD},actor_loss", *[f"{k},0,measured,{k}" for k in range(10)])
    log("ppo_losses.1.csv", f"{HEAD},actor_loss,critic_loss", "10,0,measured,10,7", "11,0,measured,,8")
    log("total_losses.csv", f"{HEAD},loss", "1,0,measured,3")
    log("ppo_losses.bak.csv", f"{HEAD},loss", "1,0,measured,3")
    assert losses_of(tmp_path) == {
        ("ppo", "actor_loss"): [float(k) for k in range(11)],
        ("ppo", "critic_loss"): [7.0, 8.0],
        ("total", "loss"): [3.0],
    }


def test_trend_and_damage(log, tmp_path):
    folder = log("ppo_losses.csv", f"{HEAD},a", *[f"{k},0,measured,{50 - k}" for k in range(40)], "40,0,meas")
    with (folder / "ppo_losses.csv").open("a") as file:
        file.write("41,0,measu")
    found = read_losses(tmp_path, Table())
    assert (found.losses[0].trend, found.damaged) == ("falling", 2)


def test_rows_that_were_trained_again_are_left_out(log, tmp_path):
    log(
        "ppo_losses.csv",
        f"{HEAD},a",
        "10,0,measured,1",
        "20,0,measured,2",
        "30,0,measured,3",
        "25,0,measured,-2",
    )
    log("config.json", json.dumps({"resumes": [{"step": 10, "rows": {"ppo_losses.csv": 3}}]}))
    assert losses_of(tmp_path) == {("ppo", "a"): [1.0, -2.0]}


def test_log_that_lies_elsewhere_is_found_by_its_pointer(tmp_path):
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    elsewhere.mkdir()
    (run / "network_loss_logs").mkdir(parents=True)
    (run / "network_loss_logs" / "location.txt").write_text(f"{elsewhere}\n")
    (elsewhere / "gnn_losses.csv").write_text(f"{HEAD},a\n1,0,measured,2\n")
    assert losses_of(run) == {("gnn", "a"): [2.0]}
    (run / "network_loss_logs" / "location.txt").write_text("/nowhere\n\n")
    assert losses_of(run) == {}


def test_missing_networks_are_named_with_their_reason(log, tmp_path):
    networks = {"ppo": {"status": "recorded"}, "sac": {"status": "missing", "reason": "the learner is PPO"}}
    log("config.json", json.dumps({"networks": networks}))
    assert read_losses(tmp_path, Table()).missing == {"sac": "the learner is PPO"}


def test_recorder_and_its_earlier_parts(log, tmp_path):
    counts = {"offered": 10, "written": 7, "dropped": 2, "invalid": 1}
    log(
        "recorder.json", json.dumps({"state": "running", "heartbeat": 5.0, **counts, "earlier": [counts, {}]})
    )
    (recorder,) = read_recorders(tmp_path, [])
    assert (recorder.state, recorder.heartbeat, recorder.is_lossy) == ("running", 5.0, True)
    assert recorder.describe() == "20 offered, 14 written, 4 dropped, 2 invalid"
    assert COUNTS == RECORDER_COUNTS


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_torn_recorder_file_is_none(log, tmp_path, text):
    log("recorder.json", text)
    assert read_recorders(tmp_path, []) == []


def test_recorder_file_without_fields(log, tmp_path):
    log("recorder.json", '{"pid": 1}')
    (recorder,) = read_recorders(tmp_path, [])
    assert (recorder.state, recorder.heartbeat, recorder.is_lossy) == ("unknown", None, False)


def test_without_a_recorder_the_columns_of_metrics_csv_count(make_run):
    run = read_run(make_run("a"))
    (loss,) = run.losses.losses
    assert (loss.network, loss.name, loss.trend) == ("learner", "value", "insufficient")
    assert loss.series.values.tolist() == [1, 1 / 2, 1 / 3, 1 / 4]
    assert run.losses is run.losses
