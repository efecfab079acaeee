"""Docstrings that open with a fragment, which only a reader of the code understands.

``python tests/docstrings.py [PATH ...]`` prints where they stand. A docstring opens with a fragment when its
first sentence lacks its subject ("Of the run.", "The same with ranks."), or does not end in a full stop; an
entry of ``Args``, ``Attributes`` or ``Returns`` does when it opens like that.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
FOLDERS = ("lit_rl", "callbacks")
"""``lit_rl/callbacks`` is a link to ``callbacks``, and links are not followed: each file counts once."""

_OPENINGS = re.compile(
    r"(Of|The same|That of|Those of|See|Inverse of|As in|As the|Like|And|Where)\b"
    r"|With\b[^,]*$"  # a comma ends the prepositional phrase, and a sentence follows
)
_FULL_STOP = re.compile(r"[.?!][)\"'`]*(?=\s|$)")
_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Example|Examples|Note):")
_ENTRY = re.compile(r"[\w*, `]+(?: \([^)]*\))?: (.*)")


class Fragment(NamedTuple):
    """A text that opens with a fragment."""

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def find(paths: list[Path]) -> list[Fragment]:
    """Find fragments in the files and folders ``paths``, which are relative to the repository."""
    roots = [ROOT / path for path in paths]
    files = [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))]
    return [fragment for file in files for fragment in sorted(_in_file(file), key=lambda it: it.line)]


def _in_file(file: Path) -> Iterator[Fragment]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            for line, text in fragments(node.value.value):
                yield Fragment(file.relative_to(ROOT), node.lineno + line, text)


def fragments(docstring: str) -> Iterator[tuple[int, str]]:
    """Find what opens with a fragment in ``docstring``: the number of its line there, and its text."""
    lines = docstring.expandtabs().splitlines()
    paragraph = re.split(r"\n\s*\n", docstring.strip())[0]
    end = _FULL_STOP.search(paragraph)
    sentence = paragraph[: end.end()] if end else paragraph
    if end is None or _OPENINGS.match(" ".join(sentence.split())):
        yield 0, " ".join(sentence.split())
    section, indent, is_first = "", 0, False
    for number, line in enumerate(lines):
        text, depth = line.strip(), len(line) - len(line.lstrip())
        if match := _SECTION.fullmatch(text):
            section, indent, is_first = match[1], depth, True
        elif section and text and depth <= indent:
            section = ""
        elif section in ("Args", "Attributes") and depth == indent + 4:
            entry = _ENTRY.fullmatch(text)
            if entry and _OPENINGS.match(_first_sentence(entry[1])):
                yield number, text
        elif section == "Returns" and text and is_first:
            is_first = False  # what follows continues the first line
            if _OPENINGS.match(_first_sentence(text)):
                yield number, text


def _first_sentence(text: str) -> str:
    end = _FULL_STOP.search(text)
    return text[: end.end()] if end else text


if __name__ == "__main__":
    found = find([Path(name) for name in sys.argv[1:] or FOLDERS])
    sys.stdout.write("".join(f"{fragment}\n" for fragment in found))
    sys.stdout.write(f"{len(found)} texts open with a fragment\n")
