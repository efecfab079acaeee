"""The discriminator q_D(Z | s) reads the team's skill from the global state.

It is from Yang et al. 2023 (NeurIPS), section 4.3. Axes: S state features, B samples; ... stands for any
leading axes.
"""

from __future__ import annotations

from torch import Tensor

from lit_rl.algos.hmasd.discriminator import Discriminator
from lit_rl.flat import FlatAdam


class TeamDiscriminator(Discriminator):
    """A network trained by the first term of Eq. 8, which gives log q_D(Z | s) of Eq. 4.

    ``Discriminator`` explains the arguments.
    """

    def build(self, state: int) -> None:
        """Create the network for ``state`` features S of a state."""
        self.build_network(state)

    def forward(self, state: Tensor, team_skill: Tensor) -> Tensor:
        """Compute log q_D (...) of ``team_skill`` (...), given the states (..., S) that followed."""
        return self.log_probs_of(state, team_skill)

    def learn(self, state: Tensor, team_skill: Tensor, valid: Tensor | None, optimizer: FlatAdam) -> Tensor:
        """Learn the skills (...) that belong to states (..., S); return the mean loss.

        ``valid`` (...) is False for steps that do not count; None counts all.
        """
        valid_B = None if valid is None else valid.flatten()
        return self.fit_features(state.flatten(0, -2), team_skill.flatten(), valid_B, optimizer)
