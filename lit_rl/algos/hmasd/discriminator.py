"""What the two discriminators of HMASD share: a classifier trained on the rollout at hand.

Yang et al. 2023 (NeurIPS), Eq. 8. Axes: ... any leading axes, B rows, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_rl.distributions import Categorical
from lit_rl.flat import FlatAdam
from lit_rl.losses import weighted_mean
from lit_rl.nets import linear


class Discriminator(nn.Module):
    """Says which of ``categories`` skills was followed, from what is seen after the step.

    Args:
        categories: Number of skills.
        hidden: Widths of the hidden layers.
        epochs: Passes over each rollout, all of it in one minibatch.
    """

    def __init__(
        self,
        categories: int,
        hidden: tuple[int, ...] = (64, 64),
        epochs: int = 15,
    ) -> None:
        super().__init__()
        self.categories, self.hidden = categories, list(hidden)
        self.skill = Categorical(categories)
        self.epochs = epochs

    def build_network(self, features: int) -> None:
        """The network for F features: normalised inputs and layers, logits near 0 at first."""
        layers: list[nn.Module] = [nn.LayerNorm(features)]
        for width in self.hidden:
            layers += [linear(features, width, 2**0.5), nn.ReLU(), nn.LayerNorm(width)]
            features = width
        self.network = nn.Sequential(*layers, linear(features, self.categories, 0.01))

    def log_probs_of(self, features: Tensor, skill: Tensor) -> Tensor:
        """Log q of ``skill`` (...) given ``features`` (..., F)."""
        return self.skill.log_prob((self.network(features),), skill)

    def fit_features(
        self, features: Tensor, skill: Tensor, weight: Tensor | None, optimizer: FlatAdam
    ) -> Tensor:
        """All epochs of Eq. 8; returns the mean of the cross-entropy over them.

        Args:
            features: What is seen, (B, F).
            skill: The skill that was followed, (B,) int64.
            weight: 1 for rows that count, 0 for others, (B,); None counts all.
            optimizer: The one of this network.
        """
        losses = []
        for _ in range(self.epochs):
            loss = -weighted_mean(self.log_probs_of(features, skill), weight)
            optimizer.minimize(loss)
            losses.append(loss.detach())
        return torch.stack(losses).mean()
