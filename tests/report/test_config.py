import math

import pytest

from lit_rl.report.config import parse_config

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{b}: &{b} {{<<: [{', '.join([f'*{a}'] * 9)}]}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def test_aliases_are_copied():
    assert parse_config("a: &a {x: [1, 2]}\nb: *a") == {"a": {"x": [1, 2]}, "b": {"x": [1, 2]}}


def test_numbers_no_float_holds_are_infinite():
    assert parse_config(f"a: 0x{'f' * 5000}\nb: [{10**299}]") == {"a": math.inf, "b": [10**299]}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a {b: *a}",
        "&a [*a]",
        LAUGHS,
        MERGES,
        "a: " + "[" * 5000,
        "a: " + "[" * 200 + "]" * 200,
        f"a: {'9' * 5000}",
        "a: 2001-99-99",
        "- 1",
        "\x00",
    ],
    ids=[
        "recursive",
        "recursive list",
        "laughs",
        "merges",
        "open",
        "deep",
        "digits",
        "date",
        "list",
        "binary",
    ],
)
def test_what_is_endless_or_no_mapping_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_config(text)
