"""The compiler of environments, or none: an actor of few robots runs the same functions as plain Python.

That takes more time for each robot, and saves the memory of the compiler, and the seconds that it takes at
its first start. ``without_compiler.py`` decides it for the whole process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lit_rl.envs.without_compiler import is_left_out


def _as_it_is(function: Callable[..., Any] | None = None, **options: Any) -> Any:  # noqa: ARG001
    """Return the function; ``options`` are for the compiler."""
    return _as_it_is if function is None else function


def _going_round(function: Callable[..., Any]) -> Any:
    """Return the function, in which whole numbers go round without a warning, as in compiled code."""

    @functools.wraps(function)
    def called(*args: Any) -> Any:
        with np.errstate(over="ignore"):
            return function(*args)

    return called


njit: Any
compiled: Any
if is_left_out():
    njit, compiled = _as_it_is, _going_round
else:
    import numba

    from lit_rl.envs import compiled as compiler

    njit, compiled = numba.njit, compiler.compiled
