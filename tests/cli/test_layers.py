import pytest

from lit_rl.cli.errors import CommandError
from lit_rl.cli.layers import callback_arguments, pairs, read_layers


def write(cwd, name, text):
    (cwd / name).write_text(text)
    return name


def test_later_layers_win_and_lists_with_a_plus_grow(cwd):
    one = write(cwd, "one.yaml", "data: {init_args: {a: 1, b: {c: 2}}}\ntrainer: {callbacks: [x]}\n")
    two = write(cwd, "two.yaml", "data: {init_args: {b: {d: 3}}}\ntrainer: {callbacks+: [y]}\n")
    merged = read_layers([one, two])
    assert merged["data"]["init_args"] == {"a": 1, "b": {"c": 2, "d": 3}}
    assert merged["trainer"]["callbacks"] == ["x", "y"]
    assert read_layers([one])["trainer"]["callbacks"] == ["x"]  # what was read before has not changed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "expected keys such as model, data and budget, got a list"),
        ("a: [", "is no valid YAML: line 1"),
    ],
)
def test_a_broken_layer_is_one_line(cwd, text, message):
    with pytest.raises(CommandError, match=message):
        read_layers([write(cwd, "x.yaml", text)])


def test_pairs_are_read_as_yaml():
    assert pairs(["--a.b", "1", "--c=[2]", "--d", "text"], "act") == [("a.b", 1), ("c", [2]), ("d", "text")]
    with pytest.raises(CommandError, match=r"--a: expected --data.KEY VALUE; see lit-rl act --help"):
        pairs(["--a"], "act")


def test_callbacks_are_found_by_the_name_of_their_class():
    config = {"trainer": {"callbacks": [{"class_path": "a.b.WandbRun", "init_args": {"mode": "online"}}]}}
    assert callback_arguments(config, "WandbRun") == {"mode": "online"}
    assert callback_arguments({"trainer": {"callbacks": ["a.WandbRun"]}}, "WandbRun") == {}
    assert callback_arguments({}, "WandbRun") is None
