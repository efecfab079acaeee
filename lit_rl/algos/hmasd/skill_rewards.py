"""The reward of the skill discoverer (Yang et al. 2023, NeurIPS, Eq. 4).

r^i = lambda_e r + lambda_D log q_D(Z | s') + lambda_d log q_d(z^i | o'^i, Z)

Axes: T steps, N environments, A agents.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from lit_rl import metrics
from lit_rl.losses import weighted_mean


class Weights(NamedTuple):
    """Weights of the three terms of the reward: lambda_e, lambda_D and lambda_d."""

    env: float
    team: float
    agents: float


class SkillRewards(NamedTuple):
    """Rewards of the skill discoverer and their parts.

    Attributes:
        reward: Reward of each agent, (T, N, A).
        components: The environment's reward as it came, and what each discriminator adds to the reward, as
            means over agents, (T, N).
        logged: Means to log, by the names of ``metrics.py``.
    """

    reward: Tensor
    components: dict[str, Tensor]
    logged: dict[str, Tensor | float]


def skill_rewards(
    env_reward: Tensor,
    team_TN: Tensor,
    agents_TNA: Tensor,
    weights: Weights,
    num_skills: tuple[int, int],
    has_baseline: bool,
    valid_TN: Tensor | None,
    acted_TNA: Tensor | None,
) -> SkillRewards:
    """Add the three terms of the reward.

    Args:
        env_reward: The environment's reward of the team (T, N), or of each agent (T, N, A).
        team_TN: Log-probabilities log q_D of the team's skills.
        agents_TNA: Log-probabilities log q_d of the agents' skills.
        weights: Weights of the terms.
        num_skills: Number of team skills n_Z, and of skills of an agent n_z.
        has_baseline: Whether log n_Z and log n_z are added, so that guessing earns nothing.
        valid_TN: Bool, False where no transition took place; None where all steps are transitions.
        acted_TNA: Bool, False for agents that did not act in a transition; None when all did, at every step.
    """
    weight_TN = None if valid_TN is None else valid_TN.to(team_TN.dtype)
    weight_TNA = None if acted_TNA is None else acted_TNA.to(agents_TNA.dtype)
    information_TN, information_TNA = team_TN + math.log(num_skills[0]), agents_TNA + math.log(num_skills[1])
    if has_baseline:
        team_TN, agents_TNA = information_TN, information_TNA
    team_TN, agents_TNA = weights.team * team_TN, weights.agents * agents_TNA
    env_TNA = (env_reward if env_reward.ndim == 3 else env_reward.unsqueeze(-1)).expand_as(agents_TNA)
    reward_TNA = weights.env * env_TNA + team_TN.unsqueeze(-1) + agents_TNA
    return SkillRewards(
        reward_TNA,
        {
            "env": env_reward.mean(-1) if env_reward.ndim == 3 else env_reward,
            "team_disc": team_TN,
            "ind_disc": agents_TNA.mean(-1),
        },
        {
            metrics.REWARD_LOW: weighted_mean(reward_TNA, weight_TNA),
            metrics.REWARD_ENVIRONMENT: weights.env * weighted_mean(env_TNA, weight_TNA),
            metrics.REWARD_TEAM: weighted_mean(team_TN, weight_TN),
            metrics.REWARD_INDIVIDUAL: weighted_mean(agents_TNA, weight_TNA),
            metrics.INFORMATION_TEAM: weighted_mean(information_TN, weight_TN),
            metrics.INFORMATION_AGENTS: weighted_mean(information_TNA, weight_TNA),
        },
    )
