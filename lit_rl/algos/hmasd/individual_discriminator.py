"""q_d(z^i | o^i, Z): an agent's skill read from its observation (Yang et al. 2023, NeurIPS, section 4.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lit_rl.algos.hmasd.discriminator import Discriminator
from lit_rl.algos.hmasd.transformer import one_hot
from lit_rl.flat import FlatAdam


class IndividualDiscriminator(Discriminator):
    """The second term of Eq. 8, and log q_d(z^i | o^i_{t+1}, Z) of Eq. 4. One network for all agents.

    Args:
        n_Z: Number of team skills, of which one is given.
        n_z: Number of skills of an agent.
        **arguments: What ``Discriminator`` takes besides.
    """

    def __init__(self, n_Z: int, n_z: int, **arguments: Any) -> None:
        super().__init__(n_z, **arguments)
        self.n_Z = n_Z

    def build(self, observation: int) -> None:
        """The network, for observations of O features."""
        self.build_network(observation + self.n_Z)

    def forward(self, obs: Tensor, team_skill: Tensor, agent_skills: Tensor) -> Tensor:
        """Log q_d of ``agent_skills`` (..., A) given observations (..., A, O) and the team's skill (...)."""
        return self.log_probs_of(self._features(obs, team_skill), agent_skills)

    def learn(
        self,
        obs: Tensor,
        team_skill: Tensor,
        agent_skills: Tensor,
        weight: Tensor | None,
        optimizer: FlatAdam,
    ) -> Tensor:
        """Fit observations (..., A, O) to skills (..., A); returns the mean loss."""
        features = self._features(obs, team_skill).flatten(0, -2)
        rows = None if weight is None else weight.flatten()
        return self.fit_features(features, agent_skills.flatten(), rows, optimizer)

    def _features(self, obs: Tensor, team_skill: Tensor) -> Tensor:
        team = one_hot(team_skill, self.n_Z, obs.dtype).unsqueeze(-2)
        return torch.cat([obs, team.expand(*obs.shape[:-1], self.n_Z)], -1)
