"""A configuration file is read as its user wrote it."""

from pathlib import Path

import pytest

from lit_rl.cli.errors import CommandError
from lit_rl.cli.yaml_file import read_yaml


def read(folder: Path, text: str):
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", r"x\.yaml has the key a twice, in lines 1 and 3: only one"),
        (
            "model:\n  init_args:\n    clip: 1\n    clip: 2\n",
            r"the key model\.init_args\.clip twice, in lines 3 and 4",
        ),
        ("c:\n- {a: 1}\n- {b: 1,\n   b: 2}\n", r"the key c\.1\.b twice, in lines 3 and 4"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_its_lines(tmp_path, text, message):
    with pytest.raises(CommandError, match=message):
        read(tmp_path, text)


def test_a_key_may_stand_in_several_mappings(tmp_path):
    text = "base: &base {a: 1}\none: {<<: *base, b: 2}\ntwo: {a: 3, <<: *base}\nthree: *base\n"
    assert read(tmp_path, text)["one"] == {"a": 1, "b": 2}
    assert read(tmp_path, text)["two"]["a"] == 3


def test_an_alias_of_what_holds_it_ends(tmp_path):
    assert set(read(tmp_path, "a: &a {b: *a}\n")) == {"a"}


@pytest.mark.parametrize("text", ["a: [", "\tb: 1", "a: b: c"])
def test_a_broken_file_is_one_error_with_its_line(tmp_path, text):
    with pytest.raises(CommandError, match=r"x\.yaml is no valid YAML: .*line 1"):
        read(tmp_path, text)


def test_a_file_without_keys_is_refused(tmp_path):
    with pytest.raises(CommandError, match="expected keys such as model, data and budget, got a list"):
        read(tmp_path, "[1]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("checkpoint: true", r"x\.yaml: checkpoint = True, expected keys with values"),
        ("checkpoint:", r"x\.yaml: checkpoint holds nothing, expected keys with values; or leave it out"),
        ("budget: {}\ntrainer: null", r"trainer holds nothing"),
        ("trainer: [1]", r"trainer = \[1\], expected keys with values"),
        ("model: {class_path: {a: 1}}", r"model\.class_path = {'a': 1}, expected the name of a class"),
        ("data: {class_path: X, init_args: 3}", r"data\.init_args = 3, expected keys with values"),
        ("trainer: {callbacks: [{class_path: 1}]}", r"trainer\.callbacks\.0\.class_path = 1, expected"),
        ("data: {init_args: {env: {class_path: []}}}", r"data\.init_args\.env\.class_path = \[\], expected"),
    ],
)
def test_a_section_or_class_that_is_none_is_named(tmp_path, text, message):
    with pytest.raises(CommandError, match=message):
        read(tmp_path, text)


def test_short_forms_are_taken(tmp_path):
    assert read(tmp_path, "model: PPO\ndata: {class_path: X, init_args: null}\n")["model"] == "PPO"
