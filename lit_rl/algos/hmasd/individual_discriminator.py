"""The discriminator q_d(z^i | o^i, Z) reads an agent's skill from its observation and the team's skill.

It is from Yang et al. 2023 (NeurIPS), section 4.3. Axes: A agents, O observation features, B samples; ...
stands for any leading axes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_rl.algos.hmasd.discriminator import Discriminator
from lit_rl.algos.hmasd.transformer import one_hot
from lit_rl.flat import FlatAdam


class IndividualDiscriminator(Discriminator):
    """One network for all agents, trained by the second term of Eq. 8, which gives log q_d of Eq. 4.

    Args:
        n_Z: Number of team skills.
        n_z: Number of skills of an agent.
        **arguments: Further arguments of ``Discriminator``.
    """

    def __init__(self, n_Z: int, n_z: int, **arguments: Any) -> None:
        super().__init__(n_z, **arguments)
        self.n_Z = n_Z

    def build(self, observation: int) -> None:
        """Create the network for ``observation`` features O of an agent's observation."""
        self.build_network(observation + self.n_Z)

    def forward(self, obs: Tensor, team_skill: Tensor, agent_skills: Tensor) -> Tensor:
        """Compute log q_d (..., A) of agents' skills, given observations (..., A, O) and team skill (...)."""
        return self.log_probs_of(self._features(obs, team_skill), agent_skills)

    def learn(
        self,
        obs: Tensor,
        team_skill: Tensor,
        agent_skills: Tensor,
        acted: Tensor | None,
        optimizer: FlatAdam,
    ) -> Tensor:
        """Learn the skills (..., A) that belong to observations (..., A, O); return the mean loss.

        ``acted`` (..., A) is False for agents that do not count; None counts all.
        """
        features = self._features(obs, team_skill).flatten(0, -2)
        acted_B = None if acted is None else acted.flatten()
        return self.fit_features(features, agent_skills.flatten(), acted_B, optimizer)

    def _features(self, obs: Tensor, team_skill: Tensor) -> Tensor:
        team = one_hot(team_skill, self.n_Z, obs.dtype).unsqueeze(-2)
        return torch.cat([obs, team.expand(*obs.shape[:-1], self.n_Z)], -1)
