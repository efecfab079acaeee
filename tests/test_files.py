import json
import math

import pytest

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
