from __future__ import annotations

import pytest

from lit_rl.nested import keys_of, leaves, map_nested, named_leaves, without_dots

TREE = {"a": 1, "b": {"c": 2, "d": {"e": 3}}}


def test_map_keeps_the_structure():
    assert map_nested(lambda x: 10 * x, TREE) == {"a": 10, "b": {"c": 20, "d": {"e": 30}}}
    assert map_nested(lambda x: 10 * x, 4) == 40
    assert map_nested(lambda x: x, {}) == {}


def test_map_takes_leaves_of_the_same_place():
    other = {"b": {"d": {"e": 300}, "c": 200}, "a": 100}  # another order of keys
    assert map_nested(lambda x, y: x + y, TREE, other) == {"a": 101, "b": {"c": 202, "d": {"e": 303}}}


def test_map_wants_the_same_keys():
    with pytest.raises(KeyError, match="b"):
        map_nested(lambda x, y: x + y, TREE, {"a": 1})


def test_leaves_come_in_the_order_of_keys():
    assert list(leaves(TREE)) == [1, 2, 3]
    assert list(leaves(7)) == [7]
    assert list(named_leaves(TREE)) == [("a", 1), ("b/c", 2), ("b/d/e", 3)]
    assert list(named_leaves(TREE, "obs"))[1] == ("obs/b/c", 2)
    assert list(named_leaves(7, "obs")) == [("obs", 7)]


def test_paths_of_odd_keys_are_never_equal():
    tree = {"a/b": 1, "a": {"b": 2, "c.d": 3, "c:d": 4, "c~2d": 5}, "a~1b": 6, "": {"": 7}}
    paths = [path for path, _ in named_leaves(tree)]
    assert paths[:2] == ["a~1b", "a/b"]
    assert [keys_of(path) for path in paths[:6]] == [
        ["a/b"], ["a", "b"], ["a", "c.d"], ["a", "c:d"], ["a", "c~2d"], ["a~1b"],
    ]  # fmt: skip
    assert len({without_dots(path) for path in paths}) == len(paths)
    assert not any("." in without_dots(path) for path in paths)
