"""What HMASD needs of its environment and of the length of its rollouts."""

from __future__ import annotations

from lit_rl.types import EnvSpec


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
