import json
from pathlib import Path

import pytest

from lit_rl.callbacks.recorder.reader import read_losses
from lit_rl.callbacks.recorder.session import Session
from lit_rl.callbacks.recorder.settings import Settings


def open_message(directory: Path, sizes=None, session="a", **settings):
    config = {**Settings("x", str(directory.parent), **settings).to_dict(), "directory": str(directory)}
    return {
        "kind": "open",
        "config": config,
        "sizes": sizes,
        "session": session,
        "restarts": 0,
        "started": 1.0,
    }


def counts(offered, written=0, dropped=0, invalid=0):
    return {"ppo": {"offered": offered, "written": written, "dropped": dropped, "invalid": invalid}}


def rows_message(steps, **losses):
    rows = [["ppo", step, float(step), losses or {"actor_loss": float(step)}] for step in steps]
    return {"kind": "rows", "rows": rows, "counts": counts(len(rows) + 2, dropped=1)}


def load(path: Path):
    return json.loads(path.read_text())


@pytest.fixture
def session():
    session = Session(draws=False)
    yield session
    session.release()


def test_a_run_from_open_to_close(session, tmp_path):
    opened = session.handle(open_message(tmp_path, missing={"gnn": "no graph here"}))
    assert opened == {"error": None, "warning": None, "sizes": {}}
    state = load(tmp_path / "recorder.json")
    assert (state["state"], state["offered"], state["session"]) == ("running", 0, "a")
    reply = session.handle(rows_message(range(3)))
    assert reply["error"] is None
    assert reply["sizes"] == {"ppo_losses.csv": (tmp_path / "ppo_losses.csv").stat().st_size}
    session.handle({"kind": "close", "counts": counts(5, 3, 1, 1)})
    session.end()

    state = load(tmp_path / "recorder.json")
    assert (state["state"], state["pending"]) == ("finished", 0)
    assert state["networks"] == counts(5, 3, 1, 1)
    statistics = load(tmp_path / "ppo_stats.json")
    assert (statistics["written"], statistics["losses"]["actor_loss"]["mean"]) == (3, 1)
    config = load(tmp_path / "config.json")
    assert config["networks"] == {
        "attention": {"status": "missing", "reason": "no loss was recorded"},
        "ppo": {"status": "recorded"},
        "gnn": {"status": "missing", "reason": "no graph here"},
        "sac": {"status": "missing", "reason": "no loss was recorded"},
        "total": {"status": "missing", "reason": "no loss was recorded"},
    }
    assert not list(tmp_path.glob("gnn*"))


def test_successor_takes_back_what_was_not_acknowledged(session, tmp_path):
    session.handle(open_message(tmp_path))
    sizes = session.handle(rows_message(range(3)))["sizes"]
    session.handle(rows_message(range(3, 6)))  # the answer to this one got lost
    session.release()
    successor = Session(draws=False)
    successor.handle(open_message(tmp_path, sizes=sizes))
    successor.handle(rows_message(range(3, 6)))
    successor.handle({"kind": "close", "counts": counts(6, 6)})
    successor.end()
    assert read_losses(tmp_path, "ppo").steps == [0, 1, 2, 3, 4, 5]
    statistics = load(tmp_path / "ppo_stats.json")["losses"]["actor_loss"]
    assert (statistics["count"], statistics["mean"]) == (6, 2.5)
    assert load(tmp_path / "recorder.json")["earlier"] == []


def test_resumed_run_marks_rows_and_remembers_the_earlier_part(session, tmp_path):
    session.handle(open_message(tmp_path))
    session.handle(rows_message([10, 20, 30]))
    session.end()  # the trainer was killed
    assert load(tmp_path / "recorder.json")["state"] == "producer_lost"
    assert load(tmp_path / "recorder.json")["pending"] == 1

    again = Session(draws=False)
    again.handle(open_message(tmp_path, session="b", resume_step=20))
    again.handle(rows_message([30, 40]))
    again.handle({"kind": "close", "counts": counts(2, 2)})
    again.end()
    assert load(tmp_path / "config.json")["resumes"] == [{"step": 20, "rows": {"ppo_losses.csv": 3}}]
    assert len((tmp_path / "ppo_losses.csv").read_text().splitlines()) == 6
    assert read_losses(tmp_path, "ppo").steps == [10, 20, 30, 40]
    assert load(tmp_path / "ppo_stats.json")["losses"]["actor_loss"]["count"] == 4
    (earlier,) = load(tmp_path / "recorder.json")["earlier"]
    assert (earlier["session"], earlier["state"], earlier["written"]) == ("a", "producer_lost", 3)


def test_faults_of_the_disk_are_answers(session, tmp_path):
    (tmp_path / "ppo_losses.csv").symlink_to("/dev/full")
    session.handle(open_message(tmp_path))
    reply = session.handle(rows_message(range(3)))
    assert "No space left on device" in reply["error"]
    assert reply["sizes"] == {}
    (tmp_path / "ppo_losses.csv").unlink()
    assert session.handle(rows_message(range(3)))["error"] is None
    assert read_losses(tmp_path, "ppo").steps == [0, 1, 2]


def test_statistics_that_cannot_be_written_are_a_warning(session, tmp_path, monkeypatch):
    session.handle(open_message(tmp_path))
    session.handle(rows_message(range(3)))
    (tmp_path / "ppo_stats.json").mkdir()
    reply = session.handle({"kind": "close", "counts": counts(3, 3)})
    assert reply["error"] is None
    assert "ppo_stats.json" in reply["warning"]


def test_directory_that_is_gone(session, tmp_path):
    assert "No such file" in session.handle(open_message(tmp_path / "gone"))["error"]
    assert "not open" in session.handle({**rows_message([1])})["error"]


def test_two_recorders_never_share_a_directory(session, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_rl.callbacks.recorder.session.LOCK_TIMEOUT_S", 0.0)
    session.handle(open_message(tmp_path))
    other = Session(draws=False)
    assert "another recorder writes here" in other.handle(open_message(tmp_path))["error"]
    session.handle({"kind": "close", "counts": {}})
    session.end()
    assert other.handle(open_message(tmp_path, session="b"))["error"] is None
    other.release()
