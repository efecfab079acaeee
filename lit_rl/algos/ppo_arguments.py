"""What the arguments of PPO may be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lit_rl.algos.ppo import PPO


def check_arguments(learner: PPO) -> None:
    """Refuse values out of range, and arguments that contradict each other.

    Raises:
        ValueError: The first problem, in one line, with what to do.
    """
    for problem in _problems(learner):
        raise ValueError(f"{type(learner).__name__}: {problem}")


def _problems(learner: PPO) -> Iterator[str]:
    ranges = {
        "learning_rate": learner.learning_rate > 0,
        "batch_size": learner.batch_size >= 1,
        "update_epochs": learner.update_epochs >= 1,
        "gamma": 0 < learner.gamma <= 1,
        "gae_lambda": 0 <= learner.gae_lambda <= 1,
        "clip": 0 < learner.clip < 1,
    }
    for name, is_fine in ranges.items():
        if not is_fine:
            yield f"{name} = {getattr(learner, name)} is outside its range; see the help of the argument"
    if learner.share_encoder and learner.encoder is None:
        yield "share_encoder = true contradicts encoder = null; give an encoder or leave it false"
    if learner.share_encoder and learner.central_critic:
        yield "share_encoder = true contradicts central_critic = true, which sees something else"
    if learner.critic_encoder is not None and not learner.central_critic:
        yield "critic_encoder is of a central critic, but central_critic = false; give encoder alone"
    if learner.agent_ids == "actor" and not learner.central_critic:
        yield "agent_ids = actor needs a central critic, but central_critic = false; give agent_ids = true"
    if learner.clip_value is not None and learner.clip_value <= 0:
        yield f"clip_value must be above 0, got {learner.clip_value}; null does not clip the value"
    if learner.huber_delta is not None and learner.huber_delta <= 0:
        yield f"huber_delta must be above 0, got {learner.huber_delta}; null squares all errors"
    if learner.normalize_advantage and learner.batch_size == 1:
        yield "batch_size = 1 contradicts normalize_advantage = true: one sample has no spread"
