import errno
import json
import math
import os
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
        "pathlib.Path.replace", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "full"))
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


@pytest.mark.parametrize("is_there", [True, False])
def test_a_planted_link_is_replaced_not_followed(tmp_path, is_there):
    victim, path = tmp_path / "victim", tmp_path / "run" / "x.json"
    path.parent.mkdir()
    if is_there:
        victim.write_text("mine")
    for name in (path, files.unfinished(path)):
        name.symlink_to(victim)
    write_json(path, {"a": 1})
    assert not path.is_symlink()
    assert read_json(path) == {"a": 1}
    assert (victim.read_text() if is_there else victim.exists()) == ("mine" if is_there else False)
    assert [file.name for file in path.parent.iterdir()] == ["x.json"]


@pytest.mark.parametrize("mode", ["a", "ab", "r+b"])
def test_a_file_that_is_written_on_is_no_link(tmp_path, mode):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "log.txt").symlink_to("victim")
    with pytest.raises(OSError, match=r"log\.txt"):
        files.open_own(tmp_path / "log.txt", mode)
    (tmp_path / "log.txt").unlink()
    (tmp_path / "log.txt").write_text("a")
    with files.open_own(tmp_path / "log.txt", mode) as file:
        file.write("b" if mode == "a" else b"b")
    assert (tmp_path / "log.txt").read_text() == ("b" if mode == "r+b" else "ab")


def test_what_killed_processes_left_is_removed_wherever_it_lies(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    kept = [tmp_path / "x.unfinished", tmp_path / ".x", tmp_path / "checkpoints" / "last.ckpt"]
    left = [files.unfinished(tmp_path / "x.json"), files.unfinished(tmp_path / "checkpoints" / "last.ckpt")]
    for path in [*kept, *left]:
        path.touch()
    assert files.remove_unfinished(tmp_path) == 2
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def test_numbers_that_no_float_holds_are_infinite(tmp_path):
    (tmp_path / "a.json").write_text(f'{{"a": {"9" * 5000}, "b": -{"9" * 400}, "c": {10**299}}}')
    assert read_json(tmp_path / "a.json") == {"a": math.inf, "b": -math.inf, "c": 10**299}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_read_as_nothing(tmp_path, make):
    make(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {}
    with pytest.raises(OSError, match="not a regular file"):
        files.load_json(tmp_path / "a.json")


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    (tmp_path / "a").write_bytes(b"123456")
    assert files.read_bytes(tmp_path / "a", 6) == b"123456"
    with pytest.raises(OSError, match="larger than 5e-06 MB"):
        files.read_bytes(tmp_path / "a", 5)
