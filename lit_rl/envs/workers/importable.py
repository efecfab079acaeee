"""Pickles for processes that import classes by name: what a script defines itself cannot reach them."""

from __future__ import annotations

import io
from types import FunctionType
from typing import Any

import cloudpickle


class NotImportableError(TypeError):
    """A class or a function is of the script that runs, which no other process can import."""


def refuse_main(obj: Any) -> None:
    """Refuse a class or a function of ``__main__``.

    Raises:
        NotImportableError: It is one.
    """
    if isinstance(obj, (type, FunctionType)) and obj.__module__ == "__main__":
        kind = "class" if isinstance(obj, type) else "function"
        raise NotImportableError(
            f"the {kind} {obj.__qualname__} is of __main__, the script that runs or a notebook, from which "
            "workers on Ray import nothing; put it into a module of its own"
        )


def dumps_by_name(obj: Any) -> bytes:
    """Pickle an object, in which nothing is of ``__main__``.

    Raises:
        NotImportableError: Something is.
    """
    file = io.BytesIO()
    _ByName(file).dump(obj)
    return file.getvalue()


class _ByName(cloudpickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        refuse_main(obj)
        return super().reducer_override(obj)
