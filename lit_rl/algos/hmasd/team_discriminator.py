"""q_D(Z | s): the team's skill read from the global state (Yang et al. 2023, NeurIPS, section 4.3)."""

from __future__ import annotations

from torch import Tensor

from lit_rl.algos.hmasd.discriminator import Discriminator
from lit_rl.flat import FlatAdam


class TeamDiscriminator(Discriminator):
    """The first term of Eq. 8, and log q_D(Z | s_{t+1}) of Eq. 4. Arguments: ``Discriminator``."""

    def build(self, state: int) -> None:
        """The network, for states of S features."""
        self.build_network(state)

    def forward(self, state: Tensor, team_skill: Tensor) -> Tensor:
        """Log q_D of ``team_skill`` (...) given the state (..., S) that followed."""
        return self.log_probs_of(state, team_skill)

    def learn(self, state: Tensor, team_skill: Tensor, weight: Tensor | None, optimizer: FlatAdam) -> Tensor:
        """Fit states (..., S) to skills (...); returns the mean loss."""
        rows = None if weight is None else weight.flatten()
        return self.fit_features(state.flatten(0, -2), team_skill.flatten(), rows, optimizer)
