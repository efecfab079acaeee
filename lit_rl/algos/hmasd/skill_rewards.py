"""The reward of the skill discoverer (Yang et al. 2023, NeurIPS, Eq. 4).

r^i = lambda_e r + lambda_D log q_D(Z | s') + lambda_d log q_d(z^i | o'^i, Z)

Axes: T time, N environments, A agents.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from lit_rl import metrics
from lit_rl.losses import weighted_mean


class Weights(NamedTuple):
    """Weights of the three terms: lambda_e, lambda_D and lambda_d."""

    env: float
    team: float
    agents: float


class SkillRewards(NamedTuple):
    """Rewards and their parts.

    Attributes:
        reward: (T, N, A).
        components: The environment's reward as it came, and what the discriminators add, each (T, N): means
            over agents.
        logged: Means to log.
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
    counts_TNA: Tensor | None,
) -> SkillRewards:
    """Join the three terms.

    Args:
        env_reward: Of the team (T, N), or of each agent (T, N, A).
        team_TN: log q_D.
        agents_TNA: log q_d.
        weights: Of the terms.
        num_skills: n_Z and n_z.
        has_baseline: Add log n_Z and log n_z, so that guessing earns nothing.
        valid_TN: 1 where a transition took place; None: everywhere.
        counts_TNA: 1 for agents that acted in one; None: all.
    """
    information = team_TN + math.log(num_skills[0]), agents_TNA + math.log(num_skills[1])
    team, agents = information if has_baseline else (team_TN, agents_TNA)
    team, agents = weights.team * team, weights.agents * agents
    env = (env_reward if env_reward.ndim == 3 else env_reward.unsqueeze(-1)).expand_as(agents)
    reward = weights.env * env + team.unsqueeze(-1) + agents
    return SkillRewards(
        reward,
        {
            "env": env_reward.mean(-1) if env_reward.ndim == 3 else env_reward,
            "team_disc": team,
            "ind_disc": agents.mean(-1),
        },
        {
            metrics.REWARD_LOW: weighted_mean(reward, counts_TNA),
            metrics.REWARD_ENVIRONMENT: weights.env * weighted_mean(env, counts_TNA),
            metrics.REWARD_TEAM: weighted_mean(team, valid_TN),
            metrics.REWARD_INDIVIDUAL: weighted_mean(agents, counts_TNA),
            metrics.INFORMATION_TEAM: weighted_mean(information[0], valid_TN),
            metrics.INFORMATION_AGENTS: weighted_mean(information[1], counts_TNA),
        },
    )
