"""Requirements of HMASD on its arguments, its environment, and the length of its rollouts."""

from __future__ import annotations

from lit_rl.types import EnvSpec


def check_heads(heads: int, embedding: int) -> None:
    """Refuse a number of attention heads that does not divide the width of a token.

    Raises:
        ValueError: ``heads`` does not divide ``embedding``; the message names the numbers that do.
    """
    if embedding % heads:
        raise ValueError(
            f"HMASD: heads = {heads} does not divide embedding = {embedding}; values that fit: "
            f"{_divisors(embedding)}"
        )


def check_spec(spec: EnvSpec) -> None:
    """Refuse an environment that HMASD cannot learn in.

    Raises:
        ValueError: The environment has no agents, or no global state.
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
    """Refuse a ``k`` that does not divide the steps of a rollout, where ``skill_sync`` demands it.

    Raises:
        ValueError: ``k`` does not divide ``steps``; the message names the numbers that do.
    """
    if skill_sync == "divide" and steps % k:
        raise ValueError(
            f"HMASD: k = {k} does not divide the {steps} steps of a rollout; values that fit: "
            f"{_divisors(steps)}, or skill_sync: truncate"
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
