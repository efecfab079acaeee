"""Docstrings are whole sentences, which a reader understands who does not know the code."""

from pathlib import Path

import pytest

from tests.docstrings import find, fragments

LIMIT = 5
"""So many texts of the whole package may open with a fragment."""

CHECKED = ("lit_rl", "callbacks")
"""Folders whose sentences are whole; lit_rl/callbacks is a link to the second."""


def test_hardly_a_docstring_opens_with_a_fragment():
    found = find([Path(name) for name in CHECKED])
    assert len(found) <= LIMIT, "\n" + "\n".join(map(str, found))


@pytest.mark.parametrize(
    "text",
    [
        "Of the run.",
        "The same with ranks. It is longer.",
        "That of the run, if there\n    is one.",
        "See :func:`gae`.",
        "Inverse of the one before.",
        "With a clock.\n\n    It ticks, and a sentence follows.",
        "Where the file lies.",
        "Writes a file",
    ],
)
def test_a_first_sentence_that_is_a_fragment(text):
    assert [line for line, _ in fragments(text)] == [0]


@pytest.mark.parametrize(
    "text",
    [
        "Write a file.",
        "With a clock, the run ends in time.",
        "Offers what it has.",
        "Says ``12 s``. See below.",
    ],
)
def test_a_first_sentence_that_is_whole(text):
    assert list(fragments(text)) == []


def test_entries_are_looked_at_and_errors_are_not():
    text = """Write a file.

    Args:
        path: Of the file.
        mode: How it is opened, see below.
            With a second line.
        seed (int): The same for the seed.

    Returns:
        Those of the file.
        Of a second line.

    Raises:
        OSError: Like so.

    See the manual.
    """
    assert list(fragments(text)) == [
        (3, "path: Of the file."),
        (6, "seed (int): The same for the seed."),
        (9, "Those of the file."),
    ]
    (found,) = fragments("Write a file.\n\n    Attributes:\n        a: See ``gae``.\n")
    assert found == (3, "a: See ``gae``.")
