"""Decides whether environments of this process are compiled, before one of them is imported."""

from __future__ import annotations

import os
import sys
from typing import Any

VARIABLE = "LIT_RL_WITHOUT_COMPILER"
"""Environment variable; ``1`` leaves the compiler out."""
_PLAIN = {"GO2-v0"}
"""Environments that run without the compiler."""
_MOST = 2


def leave_out_compiler(env: Any, num_envs: int) -> None:
    """Run environments without the compiler in this process, if they can and are few.

    Args:
        env: Value of ``data.env``.
        num_envs: Number of environments.
    """
    if isinstance(env, str) and env in _PLAIN and num_envs <= _MOST and "lit_rl.envs.jit" not in sys.modules:
        os.environ.setdefault(VARIABLE, "1")


def is_left_out() -> bool:
    """Tell whether environments run as plain Python."""
    return os.environ.get(VARIABLE) == "1"
