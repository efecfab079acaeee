import errno
import json
import math
from pathlib import Path

import pytest

from lit_rl import files
from lit_rl.files import read_json, write_json


def test_json_is_strict(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": [math.nan, -math.inf, 1.5], "b": {"c": math.inf}})
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "a": ["nan", "-inf", 1.5],
        "b": {"c": "inf"},
    }
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_old_file_survives_a_failure(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    monkeypatch.setattr(
        "pathlib.Path.write_bytes", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "full"))
    )
    with pytest.raises(OSError, match="full"):
        write_json(path, {"a": 2})
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"a": 1'])
def test_torn_json_is_empty(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") == read_json(tmp_path / "b.json") == {}


def refuse_links(source: Path, target: Path) -> None:
    """A file system without hard links."""
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("keeps_by", ["link", "copy"])
def test_a_second_name_stays_when_the_first_is_replaced(tmp_path, monkeypatch, keeps_by):
    if keeps_by == "copy":
        monkeypatch.setattr(files.os, "link", refuse_links)
    first, second = tmp_path / "best.ckpt", tmp_path / "models" / "model.pt"
    files.write_text(first, "one")
    files.keep_as(first, second)
    assert second.read_text() == "one"
    assert second.samefile(first) == (keeps_by == "link")
    files.write_text(first, "two")
    assert second.read_text() == "one"
    for _ in range(2):  # again: of two links to one file, rename() removes none
        files.keep_as(first, second)
        assert second.read_text() == "two"
    assert [path.name for path in second.parent.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("keeps_by", ["link", "copy"])
def test_what_a_killed_process_left_is_not_written_into(tmp_path, monkeypatch, keeps_by):
    """Between link and rename the unfinished name is a link to a checkpoint that is in use."""
    best, last, model = tmp_path / "best.ckpt", tmp_path / "last.ckpt", tmp_path / "model.pt"
    best.write_text("best")
    last.write_text("last")
    files.unfinished(model).hardlink_to(best)
    if keeps_by == "copy":
        monkeypatch.setattr(files.os, "link", refuse_links)
    files.keep_as(last, model)
    assert (best.read_text(), model.read_text()) == ("best", "last")
    assert not files.unfinished(model).exists()


def test_a_copy_that_breaks_off_leaves_the_old_file(tmp_path, monkeypatch):
    def break_off(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "link", refuse_links)
    monkeypatch.setattr(files.shutil, "copyfile", break_off)
    first, second = tmp_path / "best.ckpt", tmp_path / "model.pt"
    first.write_text("new")
    second.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        files.keep_as(first, second)
    assert second.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.ckpt", "model.pt"]
