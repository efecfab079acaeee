"""What the arguments of HMASD, its environment and its rollouts may be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lit_rl.types import EnvSpec


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse values out of range.

    Raises:
        ValueError: The first problem, in one line.
    """
    for problem in _problems(given):
        raise ValueError(f"HMASD: {problem}")


def _problems(given: Mapping[str, Any]) -> Iterator[str]:
    at_least_one = ("n_Z", "n_z", "k", "embedding", "blocks", "heads", "minibatches", "discriminator_epochs")
    for name in at_least_one:
        if given[name] < 1:
            yield f"{name} must be at least 1, got {given[name]}"
    for name in ("lambda_D", "lambda_d", "lambda_h", "lambda_l", "lambda_e"):
        if given[name] < 0:
            yield f"{name} must not be negative, got {given[name]}; 0 switches its term off"
    if given["embedding"] % given["heads"]:
        fitting = [str(n) for n in range(1, given["embedding"] + 1) if given["embedding"] % n == 0]
        yield (
            f"heads = {given['heads']} does not divide embedding = {given['embedding']}; values that fit: "
            f"{', '.join(fitting)}"
        )


def check_spec(spec: EnvSpec) -> None:
    """Refuse an environment that HMASD cannot learn in.

    Raises:
        ValueError: It has no agents, or no global state.
    """
    if not spec.agents:
        raise ValueError(
            f"HMASD needs an environment of several agents, {spec.name} has no agent axis; use PPO for it"
        )
    if not spec.state:
        raise ValueError(
            f"HMASD needs an environment with a global state, {spec.name} has none: the team's skill is "
            "decided, and recognised, by it"
        )


def check_rollout_steps(steps: int, k: int, skill_sync: str) -> None:
    """Refuse a ``k`` that does not divide the steps of a rollout, where it must.

    Raises:
        ValueError: It does not; the message names those that do.
    """
    if skill_sync == "divide" and steps % k:
        fitting = [str(n) for n in range(1, steps + 1) if steps % n == 0]
        raise ValueError(
            f"HMASD: k = {k} does not divide the {steps} steps of a rollout; values that fit: "
            f"{', '.join(fitting)}, or skill_sync: truncate"
        )
