"""The compiler of environments, or none: an actor of few robots runs the same functions as plain Python.

That takes a third more time for each robot, and saves the memory of the compiler, and the seconds that it
takes at its first start. ``without_compiler.py`` decides it for the whole process.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from lit_rl.envs.without_compiler import is_left_out

if is_left_out():

    def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:  # noqa: ARG001
        """Return the function as it is; ``options`` are for the compiler."""
        return njit if function is None else function

    def compiled(function: Callable[..., Any]) -> Any:
        """Return the function, in which whole numbers go round as they do in compiled code."""

        @functools.wraps(function)
        def called(*args: Any) -> Any:
            with np.errstate(over="ignore"):
                return function(*args)

        return called

else:
    import numba

    from lit_rl.envs import compiled as compiler

    njit: Any = numba.njit
    compiled: Any = compiler.compiled

__all__ = ["compiled", "njit"]
