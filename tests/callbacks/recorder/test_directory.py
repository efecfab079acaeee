from pathlib import Path

import pytest

from lit_rl.callbacks.recorder.directory import claim, leave_pointer, owner
from lit_rl.files import write_json
from lit_rl.loss_log import find_loss_logs


def own(directory: Path, run: str) -> None:
    write_json(directory / "config.json", {"run_directory": run})


def test_every_run_gets_its_own(tmp_path):
    names = [claim(tmp_path / "logs", "x", f"run{i}", False)[0].name for i in range(3)]
    assert names == ["x_loss_log", "x_loss_log-2", "x_loss_log-3"]


def test_resumed_run_goes_on_in_its_newest(tmp_path):
    for run in ("a", "b", "a", "c"):
        own(claim(tmp_path, "x", run, False)[0], run)
    assert claim(tmp_path, "x", "a", True) == (tmp_path / "x_loss_log-3", True)
    assert claim(tmp_path, "x", "new", True) == (tmp_path / "x_loss_log-5", False)
    assert claim(tmp_path, "x", "a", False) == (tmp_path / "x_loss_log-6", False)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"experiment": 1}'])
def test_directory_of_nobody_is_not_taken_over(tmp_path, text):
    (tmp_path / "x_loss_log").mkdir()
    (tmp_path / "x_loss_log" / "config.json").write_text(text)
    assert owner(tmp_path / "x_loss_log") is None
    assert claim(tmp_path, "x", "a", True) == (tmp_path / "x_loss_log-2", False)


def test_faster_run(tmp_path, monkeypatch):
    mkdir = Path.mkdir

    def late(path, *args, **kwargs):
        if path.name == "x_loss_log" and not path.exists():
            mkdir(path)
        mkdir(path, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", late)
    assert claim(tmp_path, "x", None, False) == (tmp_path / "x_loss_log-2", False)


def test_logs_are_found_in_the_run_and_where_the_pointer_says(tmp_path):
    run = tmp_path / "run"
    inside, _ = claim(run / "network_loss_logs", "x", None, False)
    outside, _ = claim(tmp_path / "elsewhere", "x", None, False)
    leave_pointer(run, outside)
    assert find_loss_logs(run) == [inside, outside]
    assert find_loss_logs(tmp_path / "no run") == []
