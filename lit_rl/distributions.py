"""Action distributions without objects per step: a distribution is a recipe, its parameters are tensors.

Axes: U action dimensions; ... stands for any leading axes. Everything here runs inside
``torch.compile(fullgraph=True)``. Log-probabilities are computed in float32 or finer, whatever the precision
of the network, because bfloat16 keeps only three digits of a probability ratio.

``Categorical``, ``MultiCategorical`` and ``DiagNormal`` have the same methods, which take ``parameters``, a
tuple of tensors, and the attribute ``num_outputs``, the width of the network's last layer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from lit_rl.types import ActionSpec

MASKED_LOGIT = -1e9
"""Logit of a disallowed action: its probability is exactly 0, yet 0 * log 0 and all gradients stay finite."""

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
"""Half the logarithm of 2 pi, in the density of every normal."""


@dataclass(frozen=True)
class Categorical:
    """A choice of one among ``categories`` actions.

    Parameters are ``(logits (..., categories),)``, actions are (...) int64.
    """

    categories: int

    @property
    def num_outputs(self) -> int:
        """Size of the network output."""
        return self.categories

    def sample(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Draw an action, (...)."""
        return _gumbel(parameters[0]).argmax(-1)

    def mode(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Return the likeliest action, (...)."""
        return parameters[0].argmax(-1)

    def log_prob(self, parameters: tuple[Tensor, ...], action: Tensor) -> Tensor:
        """Compute the log-probability (...) of ``action`` (...)."""
        return _chosen(precise(parameters[0]).log_softmax(-1), action)

    def entropy(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Compute the entropy (...) in nats."""
        return _entropy(precise(parameters[0]).log_softmax(-1))

    def log_prob_and_entropy(self, parameters: tuple[Tensor, ...], action: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probability and entropy from one softmax."""
        log_probs = precise(parameters[0]).log_softmax(-1)
        return _chosen(log_probs, action), _entropy(log_probs)


@dataclass(frozen=True)
class MultiCategorical:
    """Independent choices, one in each action dimension.

    Parameters are ``(logits (..., sum of categories),)``, in the order of dimensions; actions (..., U) int64.
    """

    categories: Sequence[int]

    @property
    def num_outputs(self) -> int:
        """Size of the network output."""
        return sum(self.categories)

    def sample(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Draw an action (..., U), int64."""
        return self.mode((_gumbel(parameters[0]),))

    def mode(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Return the likeliest action, (..., U)."""
        return torch.stack([logits.argmax(-1) for logits in self._split(parameters[0])], -1)

    def log_prob(self, parameters: tuple[Tensor, ...], action: Tensor) -> Tensor:
        """Compute the log-probability (...) of ``action`` (..., U)."""
        choices = zip(self._log_probs(parameters), action.unbind(-1), strict=True)
        return torch.stack([_chosen(log_probs, choice) for log_probs, choice in choices]).sum(0)

    def entropy(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Compute the entropy (...) in nats."""
        return torch.stack([_entropy(log_probs) for log_probs in self._log_probs(parameters)]).sum(0)

    def log_prob_and_entropy(self, parameters: tuple[Tensor, ...], action: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probability and entropy."""
        return self.log_prob(parameters, action), self.entropy(parameters)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return x.split(list(self.categories), -1)

    def _log_probs(self, parameters: tuple[Tensor, ...]) -> list[Tensor]:
        return [logits.log_softmax(-1) for logits in self._split(precise(parameters[0]))]


@dataclass(frozen=True)
class DiagNormal:
    """Independent normals, one in each action dimension.

    Parameters are ``(mean (..., U), log_std (..., U) or (U,))``, actions are (..., U). A third one, a mask
    (..., U) of 1 and 0, says which dimensions exist, such as the joints of a robot: others act 0 and count in
    no log-probability, and the entropy is the mean of those that exist, so that it does not grow with them.
    """

    size: int

    @property
    def num_outputs(self) -> int:
        """Size of the network output, which is the means; ``log_std`` is usually a parameter of its own."""
        return self.size

    def sample(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Draw an action, (..., U)."""
        mean, log_std, *mask = map(precise, parameters)
        return _existing(mean + log_std.exp() * torch.randn_like(mean), *mask)

    def mode(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Return the mean, (..., U)."""
        return _existing(precise(parameters[0]), *parameters[2:])

    def log_prob(self, parameters: tuple[Tensor, ...], action: Tensor) -> Tensor:
        """Compute the log-density (...) of ``action`` (..., U)."""
        mean, log_std, *mask = map(precise, parameters)
        noise = (action - mean) * torch.exp(-log_std)
        size = mask[0].sum(-1) if mask else self.size
        return _existing(-0.5 * noise.square() - log_std, *mask).sum(-1) - size * HALF_LOG_2PI

    def entropy(self, parameters: tuple[Tensor, ...]) -> Tensor:
        """Compute the differential entropy (...) in nats."""
        mean, log_std, *mask = map(precise, parameters)
        if mask:
            return (log_std * mask[0]).sum(-1) / mask[0].sum(-1).clamp(min=1) + (0.5 + HALF_LOG_2PI)
        return (log_std.sum(-1) + self.size * (0.5 + HALF_LOG_2PI)).expand(mean.shape[:-1])

    def log_prob_and_entropy(self, parameters: tuple[Tensor, ...], action: Tensor) -> tuple[Tensor, Tensor]:
        """Compute log-probability and entropy."""
        return self.log_prob(parameters, action), self.entropy(parameters)


Distribution: TypeAlias = Categorical | MultiCategorical | DiagNormal


def distribution_for(action: ActionSpec) -> Distribution:
    """Choose the distribution of a policy over actions: discrete, multi-discrete or box (not squashed).

    Raises:
        ValueError: The kind is unknown, or a discrete action without categories.
    """
    if action.kind == "box":
        return DiagNormal(action.size)
    if action.kind not in ("discrete", "multi_discrete"):
        raise ValueError(f"ActionSpec.kind must be discrete, multi_discrete or box; got {action.kind!r}.")
    if not action.categories:
        raise ValueError(f"A {action.kind} ActionSpec needs the number of choices in categories; got none.")
    if action.kind == "discrete":
        return Categorical(action.categories[0])
    return MultiCategorical(action.categories)


def precise(x: Tensor) -> Tensor:
    """Return ``x`` in float32, or as it is when it is finer."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _existing(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Zero the dimensions that do not exist."""
    return x if mask is None else x * mask


def _gumbel(logits: Tensor) -> Tensor:
    """Perturb logits so that their argmax is a sample (Gumbel-max); ``exponential_`` never draws 0."""
    logits = precise(logits)
    return logits - torch.empty_like(logits).exponential_().log_()


def _chosen(log_probs: Tensor, action: Tensor) -> Tensor:
    return log_probs.gather(-1, action.unsqueeze(-1)).squeeze(-1)


def _entropy(log_probs: Tensor) -> Tensor:
    return -(log_probs.exp() * log_probs).sum(-1)


def mask_logits(logits: Tensor, mask: Tensor) -> Tensor:
    """Return logits under which actions whose ``mask``, of the same shape, is 0 are never taken."""
    return precise(logits).masked_fill(mask == 0, MASKED_LOGIT)  # which does not fit into float16
