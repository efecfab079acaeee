"""Pieces of the page, from templates of Jinja, which escapes every text that is not markup already."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(template: str, /, **values: Any) -> Markup:
    """Fill a file of the folder ``templates`` with ``values``, as markup that is not escaped again."""
    return Markup(_environment().get_template(template).render(values))


@cache
def _environment() -> Environment:
    """Everything is escaped, and a value that a template names but nobody gave is an error."""
    environment = Environment(
        loader=PackageLoader("lit_rl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment
