"""The base of the two discriminators of HMASD: a classifier of skills, trained on the newest rollout.

Its loss is Eq. 8 of Yang et al. 2023 (NeurIPS). Axes: B samples, F features; ... stands for any leading axes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_rl.distributions import Categorical
from lit_rl.flat import FlatAdam
from lit_rl.losses import weighted_mean
from lit_rl.nets import linear


class Discriminator(nn.Module):
    """Tells which of ``categories`` skills was followed, from what is seen after the step.

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
        """Create the network for F features: inputs and layers are normalised, logits are near 0 at first."""
        layers: list[nn.Module] = [nn.LayerNorm(features)]
        for width in self.hidden:
            layers += [linear(features, width, 2**0.5), nn.ReLU(), nn.LayerNorm(width)]
            features = width
        self.network = nn.Sequential(*layers, linear(features, self.categories, 0.01))

    def log_probs_of(self, features: Tensor, skill: Tensor) -> Tensor:
        """Compute log q (...) of ``skill`` (...), given ``features`` (..., F)."""
        return self.skill.log_prob((self.network(features),), skill)

    def fit_features(
        self, features_BF: Tensor, skill_B: Tensor, acted_B: Tensor | None, optimizer: FlatAdam
    ) -> Tensor:
        """Train for all epochs; return the mean of the loss over them.

        Args:
            features_BF: Features of what is seen.
            skill_B: Skills that were followed, int64.
            acted_B: Bool, False for samples that do not count; None counts all.
            optimizer: The optimizer of this network.
        """
        weight_B = None if acted_B is None else acted_B.to(features_BF.dtype)
        losses = []
        for _ in range(self.epochs):
            loss = -weighted_mean(self.log_probs_of(features_BF, skill_B), weight_B)
            optimizer.minimize(loss)
            losses.append(loss.detach())
        return torch.stack(losses).mean()
