"""The distribution of SAC's actions. Axes: U action dimensions; ... stands for any leading axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_rl.distributions import HALF_LOG_2PI, precise

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


def mean_and_log_std(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Split the last layer of an actor (..., 2 * U) into means and bounded log standard deviations."""
    mean, log_std = outputs.chunk(2, -1)
    return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


@torch.no_grad()
def begin_with_std(last: nn.Linear, std: float) -> None:
    """Let the last layer of an actor, with outputs (..., 2 * U), begin with one deviation for all actions.

    The means begin a hundred times closer to 0, so that what is tried first is the middle of the actions.
    """
    last.weight.mul_(0.01)
    last.bias.mul_(0.01)
    last.bias.chunk(2)[1].fill_(math.log(std))


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

    def sample_with_log_prob(
        self, mean: Tensor, log_std: Tensor, noise: Tensor, exists: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw an action that gradients pass through, and compute its log-density.

        u = mean + std * noise, action = tanh(u), log pi(action) = log normal(u) - sum log(1 - tanh(u)^2),
        where log(1 - tanh(u)^2) = 2 * (log 2 - u - softplus(-2 u)) stays exact for large u.

        Args:
            mean: Means before squashing, (..., U).
            log_std: Logarithms of the standard deviations before squashing, (..., U).
            noise: Standard normal, (..., U); the caller draws it, so that compiled code can be replayed.
            exists: 1 for dimensions that exist, such as the joints of a robot, and 0 for others (..., U),
                which act 0. The log-density is then the mean over those that exist, so that the entropy has
                the same weight, and the same target, for robots of all sizes. None means that all of them
                exist.

        Returns:
            Action (..., U) in (-1, 1), and its log-density (...).
        """
        mean, log_std = precise(mean), precise(log_std)
        u = mean + log_std.exp() * noise
        log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
        log_prob_U = -0.5 * noise.square() - log_std - log_slope
        if exists is None:
            return torch.tanh(u), log_prob_U.sum(-1) - self.size * HALF_LOG_2PI
        mean_log_prob = (log_prob_U * exists).sum(-1) / exists.sum(-1).clamp(min=1) - HALF_LOG_2PI
        return torch.tanh(u) * exists, mean_log_prob
