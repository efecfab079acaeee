import pytest

from lit_rl.report.words import duration, number, plural, short


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (12.4, "12 s"), (119, "119 s"), (120, "2.0 min"), (9000, "2.5 h"), (864000, "10.0 d")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (500.0, "500"),
        (0, "0"),
        (0.012345, "0.01235"),
        (-187.349, "-187.3"),
        (12346.4, "12346"),
        (1.2346e-7, "1.235e-07"),
        (float("nan"), "nan"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_plural():
    assert [plural(count, "run") for count in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


def test_a_value_of_a_file_is_one_short_line():
    assert short(["a\nb\x1b[31m"]) == "['a\\nb\\x1b[31m']"
    assert short("a\nb\x1b\ud800c") == "a b  c"
    assert short("x" * 90, 10) == "xxxxxxx..."
