"""A letter for an axis means the same in the whole package: what the legend ``AXES`` says."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_rl.checks import AXES

ROOT = Path(__file__).resolve().parents[1]

CHECKED = ("lit_rl", "callbacks")
"""Folders that keep to the legend. ``lit_rl/callbacks`` is a link to the second, and does not count twice."""

LEGEND = ROOT / "lit_rl/checks.py"
"""The file of the legend itself, whose examples need no line ``Axes:``."""

SYMBOLS = ("n_Z", "lambda_D")
"""Names from the paper of HMASD, in which the capital letter is no axis."""

SUFFIX = re.compile(r"_*[a-z][a-z\d_]*_(\d*[A-Z][A-Z\d]*)")
SIZE = r"(?:[A-Z](?:[+*/][A-Z\d])?|\d+|\.\.\.|\*?[a-z]\w+)"
SHAPE = re.compile(rf"\(((?=[^)]*(?:[A-Z]|\.\.\.)){SIZE}(?:, {SIZE})+|[A-Z],)\)")


def legend(docstring: str) -> dict[str, str]:
    """Read the line ``Axes: T steps, N environments; ...`` of a docstring: letters and their meanings."""
    match = re.search(r"\bAxes: (.*?)(?:[.;](?= |$)|$)", " ".join(docstring.split()))
    if match is None:
        return {}
    entries = re.sub(r" \([^)]*\)| = \w+ \+ \w+", "", match[1]).split(", ")
    return {letter: meaning for letter, _, meaning in (entry.partition(" ") for entry in entries)}


def plural(noun: str) -> str:
    return noun + ("es" if noun.endswith("ch") else "s")


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text and isinstance(node.value.value, str):
            yield node.value.value


def comments(source: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg


def letters_used(source: str) -> set[str]:
    """Collect the letters in suffixes (``reward_TN``) and in shapes (``(T, N)``) that the text speaks of."""
    tree = ast.parse(source)
    suffixes = [SUFFIX.fullmatch(name) for name in names(tree) if name not in SYMBOLS]
    texts = [*docstrings(tree), *comments(source)]
    shapes = [shape for text in texts for shape in SHAPE.findall(text)]
    return set("".join(re.findall("[A-Z]", " ".join([match[1] for match in suffixes if match] + shapes))))


def files() -> list[Path]:
    found = {file.resolve() for name in CHECKED for file in (ROOT / name).rglob("*.py")}
    return sorted(found - {LEGEND})


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_letter_means_what_the_legend_says(file):
    source = file.read_text(encoding="utf-8")
    told: dict[str, str] = {}
    for text in docstrings(ast.parse(source)):
        told |= legend(text)
    assert told == {letter: plural(AXES.get(letter, "?")) for letter in told}
    assert letters_used(source) - told.keys() == set()


def test_no_two_letters_mean_the_same():
    assert len(set(AXES.values())) == len(AXES)


def test_a_legend_is_read():
    text = """Some file.

    It does things. Axes: T
    steps, J = A + 1 tokens (the first, or none), M minibatches; (T) stands for any. More text, B other.
    """
    assert legend(text) == {"T": "steps", "J": "tokens", "M": "minibatches"}
    assert legend("Axes: N environments, A agents.") == {"N": "environments", "A": "agents"}
    assert legend("No legend. Two axes: time and agents.") == {}


def test_letters_of_suffixes_and_shapes_are_found():
    code = '''
def f(x_TN, n_Z, num_envs, LOG_STD):
    """Shape ``(N, A, ...)``, (K,), (T+1, N) and (centres, X); not (V) nor (Haarnoja 2018, V)."""
    self._place_3G = g(value_BL=1)  # (E*I, 2)
'''
    assert letters_used(code) == set("TNAKXGBLEI")
