"""How functions are compiled here: options, and memory on the stack."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

_log = logging.getLogger("lit_rl")

OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},  # NaN stays NaN, so that it is found
}
"""How functions that Python calls are compiled."""


def compiled(function: Callable[..., Any]) -> Any:
    """Compile ``function`` when it is first called, and keep the code for the next start of Python.

    Where no folder for the code can be written to, every start compiles anew, and a warning says so.
    """
    try:
        return njit(cache=True, **OPTIONS)(function)
    except RuntimeError as error:
        _log.warning(
            "compiled code of environments cannot be kept, so every start of Python compiles for some ten "
            "seconds (%s); set NUMBA_CACHE_DIR to a folder that can be written to",
            error,
        )
        return njit(**OPTIONS)(function)


def _on_stack(typing_context: Any, dtype: Any) -> Any:  # noqa: ARG001  # numba's signature
    """Return the type of :data:`on_stack`, and what generates its code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:  # noqa: ARG001
        return cgutils.alloca_once(builder, context.get_value_type(dtype.dtype), size=48)

    return types.CPointer(dtype.dtype)(dtype), generate


on_stack: Any = intrinsic(_on_stack)
"""Returns a pointer to 48 numbers of a dtype, on the stack of the compiled function that calls it.

``carray(on_stack(dtype), shape)`` is work space that the compiler keeps in registers once loops are unrolled;
an array from ``np.empty`` would be stored and loaded again at every step of the calculation.
"""
