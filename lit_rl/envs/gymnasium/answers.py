"""Compare what a Gymnasium environment returns with what it should, in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from lit_rl.envs.gymnasium.observation import check_observation, describe


def check_reset(name: str, method: str, space: spaces.Space, answer: Any, hints: list[str] | None) -> None:
    """Check what a reset returned.

    Args:
        name: Name of the environment, for messages.
        method: Words for the call, for messages.
        space: Space of the observation.
        answer: What came back.
        hints: List that receives what is worth a warning; None allows what can be stored nevertheless.

    Raises:
        ValueError: It is no pair of an observation of ``space`` and a dict.
    """
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise ValueError(f"{name}: {method} must return (obs, info), got {describe(answer)}")
    obs, info = answer
    if not isinstance(info, dict):
        raise ValueError(
            f"{name}: {method} must return (obs, info) with a dict info, its info is {describe(info)}"
        )
    check_observation(name, method, "observation", space, obs, hints)


def check_step(name: str, method: str, space: spaces.Space, answer: Any, hints: list[str] | None) -> None:
    """Check what a step returned; arguments as of :func:`check_reset`.

    Raises:
        ValueError: It is no observation of ``space``, reward, two flags and dict.
    """
    if not isinstance(answer, tuple) or len(answer) != 5:
        raise ValueError(
            f"{name}: {method} must return (obs, reward, terminated, truncated, info), got {describe(answer)}"
        )
    obs, reward, terminated, truncated, info = answer
    check_observation(name, method, "observation", space, obs, hints)
    check_reward(f"{name}: reward of {method}", reward, is_late=hints is None)
    for key, value in (("terminated", terminated), ("truncated", truncated)):
        check_flag(f"{name}: {key} of {method}", value, is_late=hints is None)
    if not isinstance(info, dict):
        raise ValueError(f"{name}: info of {method} is {describe(info)}, expected a dict")


def check_reward(what: str, reward: Any, is_late: bool) -> None:
    """Check that a reward is a number; a late one only that it can be stored as one.

    Raises:
        ValueError: It is not; the message begins with ``what``.
    """
    if is_late:
        if not _is_number(reward):
            raise ValueError(f"{what} is {describe(reward)}, expected a float")
        return
    is_flag = isinstance(reward, bool | np.bool_)
    if is_flag or not isinstance(reward, int | float | np.integer | np.floating):
        raise ValueError(f"{what} is {describe(reward)}, expected a float")
    if not np.isfinite(reward):
        raise ValueError(f"{what} is {reward}, expected a finite number")


def check_flag(what: str, value: Any, is_late: bool) -> None:
    """Check that a flag is a bool; a late one only that it has a truth.

    Raises:
        ValueError: It is not; the message begins with ``what``.
    """
    if isinstance(value, bool | np.bool_):
        return
    if not is_late or isinstance(value, str) or (np.ndim(value) and np.size(value) != 1):
        raise ValueError(f"{what} is {describe(value)}, expected a bool")


def _is_number(value: Any) -> bool:
    """Whether numpy stores ``value`` as one number."""
    try:
        np.zeros(1)[0] = value
    except (TypeError, ValueError):
        return False
    return True
