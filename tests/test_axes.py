"""A letter for an axis means the same in the whole package: what the legend ``AXES`` says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_rl.checks import AXES

ROOT = Path(__file__).parents[1]

CHECKED = (
    "lit_rl/algos",
    "lit_rl/buffers.py",
    "lit_rl/compute.py",
    "lit_rl/distributions.py",
    "lit_rl/encoders",
    "lit_rl/flat.py",
    "lit_rl/losses.py",
    "lit_rl/n_step.py",
    "lit_rl/nested.py",
    "lit_rl/nets.py",
    "lit_rl/normalize.py",
    "lit_rl/q_losses.py",
    "lit_rl/ranks.py",
    "lit_rl/returns.py",
    "lit_rl/types",
    "lit_rl/v_trace.py",
)
"""Files and folders that keep to the legend; the others follow."""

SYMBOLS = ("n_Z", "lambda_D")
"""Names from the paper of HMASD, in which the capital letter is no axis."""

SIZE = r"(?:[A-Z](?:\+1)?|\d+|\.\.\.|\*\w+)"
SHAPE = re.compile(rf"\(({SIZE}(?:, {SIZE})+|[A-Z],)\)")


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


def names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg | ast.keyword) and node.arg:
            yield node.arg


def letters_used(tree: ast.AST) -> set[str]:
    """Collect the letters in suffixes (``reward_TN``) and in shapes of docstrings (``(T, N)``)."""
    suffixes = [re.fullmatch(r"[a-z]\w*_([A-Z]+)", name) for name in names(tree) if name not in SYMBOLS]
    shapes = [shape for text in docstrings(tree) for shape in SHAPE.findall(text)]
    return set("".join(re.findall("[A-Z]", " ".join([match[1] for match in suffixes if match] + shapes))))


def files() -> list[Path]:
    roots = [ROOT / name for name in CHECKED]
    return [file for root in roots for file in ([root] if root.is_file() else sorted(root.rglob("*.py")))]


@pytest.mark.parametrize("file", files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_every_letter_means_what_the_legend_says(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    told: dict[str, str] = {}
    for text in docstrings(tree):
        told |= legend(text)
    assert told == {letter: plural(AXES.get(letter, "?")) for letter in told}
    assert letters_used(tree) - told.keys() == set()


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
def f(x_TN, n_Z, num_envs):
    """Shape ``(N, A, ...)``, (K,) and (T+1, N); not (A) nor (Haarnoja 2018, K)."""
    LOG_STD = g(value_BL=1)
'''
    assert letters_used(ast.parse(code)) == set("TNAKBL")
