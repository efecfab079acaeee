"""What the two discriminators of HMASD share: a classifier trained on the rollout at hand.

Yang et al. 2023 (NeurIPS), Eq. 8. Axes: ... any leading axes, B rows, F features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lit_rl.algos.gradient_steps import GradientSteps
from lit_rl.distributions import Categorical
from lit_rl.losses import weighted_mean
from lit_rl.nets import FlatAdam, FlatParameters, linear


class Discriminator(GradientSteps):
    """Says which of ``categories`` skills was followed, from what is seen after the step.

    Args:
        categories: Number of skills.
        hidden: Widths of the hidden layers.
        learning_rate: Of Adam.
        epochs: Passes over each rollout, all of it in one minibatch.
        max_grad_norm: See ``PPO``.
    """

    def __init__(
        self,
        categories: int,
        hidden: tuple[int, ...] = (64, 64),
        learning_rate: float = 5e-4,
        epochs: int = 15,
        max_grad_norm: float | None = 10.0,
    ) -> None:
        super().__init__()
        self.categories, self.hidden = categories, list(hidden)
        self.skill = Categorical(categories)
        self.learning_rate, self.epochs, self.max_grad_norm = learning_rate, epochs, max_grad_norm

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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, epsilon 1e-5."""
        self.flat = FlatParameters(self)
        return FlatAdam(self.flat, self.learning_rate, epsilon=1e-5)

    def fit_features(
        self, features: Tensor, skill: Tensor, weight: Tensor | None, optimizer: torch.optim.Optimizer
    ) -> Tensor:
        """All epochs of Eq. 8; returns the mean of the cross-entropy over them.

        Args:
            features: (B, F).
            skill: (B,) int64.
            weight: 1 for rows that count, 0 for others, (B,); None counts all.
            optimizer: What :meth:`configure_optimizers` returned.
        """
        self.flat.attach()
        losses = []
        for _ in range(self.epochs):
            loss = -weighted_mean(self.log_probs_of(features, skill), weight)
            self.optimize(optimizer, loss, self.flat, self.max_grad_norm)
            losses.append(loss.detach())
        return torch.stack(losses).mean()
