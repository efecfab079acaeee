"""Pieces of HTML; every text given is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape


class Markup(str):
    """HTML that is escaped already."""

    __slots__ = ()


def text(value: str) -> str:
    """``value`` as it is put into the page."""
    return value if isinstance(value, Markup) else escape(value)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways where it is too wide."""
    cells = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><thead><tr>{cells}</tr></thead>\n<tbody>{body}</tbody></table></div>\n'


def state(name: str, detail: str) -> Markup:
    """State of a run, marked by colour and by word."""
    more = f' <span class="muted">{escape(detail)}</span>' if detail else ""
    return Markup(f'<span class="state {escape(name)}">{escape(name)}</span>{more}')


def bars(title: str, label: str, counts: Mapping[str, float]) -> str:
    """Counts as horizontal bars; nothing where there are none."""
    if not counts:
        return ""
    most = max(*counts.values(), 1)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)} {escape(name)}</th>'
        f'<td><span class="bar" style="width:{70 * count / most:.1f}%"></span> {count:g}</td></tr>\n'
        for name, count in counts.items()
    )
    return f'<table class="bars"><caption>{escape(title)}</caption>\n<tbody>{rows}</tbody></table>\n'


def details(summary: str, content: str) -> str:
    """Text that is shown on demand."""
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(content)}</pre></details>\n"


def lines(items: Iterable[str]) -> str:
    """A list."""
    return f"<ul>{''.join(f'<li>{text(item)}</li>' for item in items)}</ul>\n"


def join(words: Iterable[str]) -> str:
    """The words that are not empty, separated by commas."""
    return ", ".join(word for word in words if word)
