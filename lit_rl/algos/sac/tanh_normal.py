"""The distribution of SAC's actions. Axes: U action dimensions; ... stands for any leading axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from lit_rl.distributions import HALF_LOG_2PI, precise

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


def mean_and_log_std(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last layer of an actor (..., 2 * U) into means and bounded log standard deviations."""
    mean, log_std = outputs.chunk(2, -1)
    return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


@dataclass(frozen=True)
class TanhNormal:
    """A normal squashed into (-1, 1) by tanh (Haarnoja 2018, arXiv:1812.05905, appendix C).

    Parameters are ``(mean (..., U), log_std (..., U))``.
    """

    size: int

    @property
    def num_outputs(self) -> int:
        """Size of the network output, which is means, then logarithms of standard deviations."""
        return 2 * self.size

    def sample(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Draw an action, (..., U)."""
        mean, log_std = map(precise, parameters)
        return torch.tanh(mean + log_std.exp() * torch.randn_like(mean))

    def mode(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Return the squashed mean, (..., U)."""
        return torch.tanh(precise(parameters[0]))

    def sample_with_log_prob(self, mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Draw an action that gradients pass through, and compute its log-density.

        u = mean + std * noise, action = tanh(u), log pi(action) = log normal(u) - sum log(1 - tanh(u)^2),
        where log(1 - tanh(u)^2) = 2 * (log 2 - u - softplus(-2 u)) stays exact for large u.

        Args:
            mean: Means before squashing, (..., U).
            log_std: Logarithms of the standard deviations before squashing, (..., U).
            noise: Standard normal, (..., U); the caller draws it, so that compiled code can be replayed.

        Returns:
            Action (..., U) in (-1, 1), and its log-density (...).
        """
        mean, log_std = precise(mean), precise(log_std)
        u = mean + log_std.exp() * noise
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
        log_prob = (-0.5 * noise.square() - log_std - log_slope).sum(-1) - self.size * HALF_LOG_2PI
        return torch.tanh(u), log_prob
