"""Running statistics of observations and returns, and the normalisation by them.

They are buffers, so that they are saved, and all ranks have the same; kept in float64, applied in float32.
Axes: T steps, N environments, A agents; (T, N) stands for (T, N, A) where there are agents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from lit_rl.checks import check_same_shape
from lit_rl.nested import named_leaves, path_to, without_dots
from lit_rl.returns import running_return
from lit_rl.types import ACTION_MASK, JOINT_MASK, LINKS, TOKENS, LeafSpec, Nested

SumOverRanks: TypeAlias = Callable[[Tensor], Tensor]
"""A function of this rank's tensor that returns the sum of the tensors of all ranks."""


class RunningNorm(nn.Module):
    """Running mean and variance of a tensor; ``forward`` returns clip((x - mean) / sqrt(variance + epsilon)).

    Before the first update it only clips.

    Args:
        shape: Shape of one sample; ``x`` may have any leading axes before it.
        clip: Results are kept within plus and minus this.
        epsilon: Added to the variance, so that constant entries become 0 and not NaN.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: Sequence[int], clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.clip = clip
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(tuple(shape), dtype=torch.float64))
        self.register_buffer("variance", torch.ones(tuple(shape), dtype=torch.float64))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        # what forward subtracts and multiplies with: the mean, and 1 / std
        self.register_buffer("shift", torch.zeros(tuple(shape)))
        self.register_buffer("scale", torch.ones(tuple(shape)))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (..., *shape)."""
        return ((x - self.shift) * self.scale).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(
        self, x: Tensor, *, valid: Tensor | None = None, sum_over_ranks: SumOverRanks | None = None
    ) -> None:
        """Add the samples of ``x`` to the statistics, exactly (Chan 1979, the parallel variance).

        share = batch count / new count,  delta = batch mean - mean,  mean += share * delta
        variance = (1 - share) * variance + share * batch variance + share * (1 - share) * delta^2

        Args:
            x: Samples, (..., *shape).
            valid: Bool, False for samples that do not count; its axes are the first ones of ``x``.
            sum_over_ranks: Makes the batch the union over ranks. All ranks must call; they agree afterwards.
        """
        batch_count, batch_mean, batch_variance = self._moments(x, valid, sum_over_ranks or _one_rank)
        count = self.count + batch_count
        share = batch_count / count.clamp(min=1)
        delta = batch_mean - self.mean
        spread = delta.square() * share * (1 - share)
        self.variance.copy_(self.variance * (1 - share) + batch_variance * share + spread)
        self.mean.add_(delta * share)
        self.count.copy_(count)
        self.shift.copy_(self.mean)
        self.scale.copy_((self.variance + self.epsilon).rsqrt())

    def _moments(
        self, x: Tensor, valid: Tensor | None, sum_over_ranks: SumOverRanks
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Compute count, mean and variance of a batch, by two sums over ranks: the second needs the mean."""
        sample_axes = x.ndim - self.mean.ndim
        if x.shape[sample_axes:] != self.mean.shape:
            raise ValueError(f"Samples must end in the shape {tuple(self.mean.shape)}; got {tuple(x.shape)}.")
        if valid is None:
            valid = torch.ones((), dtype=torch.bool, device=x.device)
        outer = valid.reshape(valid.shape + (1,) * (sample_axes - valid.ndim)).expand(x.shape[:sample_axes])
        keep = outer.reshape(-1, *(1,) * self.mean.ndim)
        samples = x.double().reshape(-1, *self.mean.shape).masked_fill(~keep, 0.0)

        sums = sum_over_ranks(torch.cat([keep.sum().double().reshape(1), samples.sum(0).reshape(-1)]))
        count = sums[0]
        mean = sums[1:].reshape(self.mean.shape) / count.clamp(min=1)
        squares = sum_over_ranks((samples - mean).square().masked_fill(~keep, 0.0).sum(0))
        return count, mean, squares / count.clamp(min=1)


def _one_rank(total: Tensor) -> Tensor:
    return total


class ObservationNorm(nn.Module):
    """A :class:`RunningNorm` for each real leaf of an observation; discrete leaves and masks stay.

    Parts, such as joints, share their statistics, and parts that do not exist count in none.

    Args:
        spec: The part of an ``EnvSpec`` that describes observations.
        clip: Normalised values are kept within plus and minus this.
    """

    def __init__(self, spec: LeafSpec | dict[str, Any], clip: float = 10.0) -> None:
        super().__init__()
        self.norms = nn.ModuleDict()
        for path, leaf in named_leaves(spec, "" if isinstance(spec, dict) else "obs"):
            key = path.rpartition("/")[2]
            if not leaf.categories and key not in (ACTION_MASK, JOINT_MASK, LINKS):
                shape = leaf.shape[-1:] if key == TOKENS else leaf.shape
                self.norms[_module_name(path)] = RunningNorm(shape, clip)

    def forward(self, obs: Nested) -> Nested:
        """Normalise an observation, leaves (..., *shape)."""
        return self._forward(obs, "" if isinstance(obs, dict) else "obs")

    def _forward(self, obs: Nested, path: str) -> Nested:
        if isinstance(obs, dict):
            return {key: self._forward(value, path_to(path, key)) for key, value in obs.items()}
        name = _module_name(path)
        return self.norms[name](obs) if name in self.norms else obs

    def update(
        self, obs: Nested, *, valid: Tensor | None = None, sum_over_ranks: SumOverRanks | None = None
    ) -> None:
        """Add observations to the statistics; :meth:`RunningNorm.update` explains the arguments."""
        named = dict(named_leaves(obs, "" if isinstance(obs, dict) else "obs"))
        for path, leaf in named.items():
            name = _module_name(path)
            if name in self.norms:
                norm, counted = cast(RunningNorm, self.norms[name]), valid
                mask = named.get(path.removesuffix(TOKENS) + JOINT_MASK) if path.endswith(TOKENS) else None
                if mask is not None:
                    counted = mask != 0 if valid is None else (mask != 0) & valid.unsqueeze(-1)
                norm.update(leaf, valid=counted, sum_over_ranks=sum_over_ranks)


def _module_name(path: str) -> str:
    """Name a submodule by a path; the name has no dot, and is never that of a method (``type``)."""
    return "leaf:" + without_dots(path)


class ValueNorm(nn.Module):
    """Running mean and deviation of returns; the critic learns to predict them normalised (Yu 2022, MAPPO).

    They come from moving averages, in which each update weighs ``1 - decay``, without the bias of their start
    at 0 (arXiv:2103.01955, and as in its code):

    m <- decay * m + (1 - decay) * mean of the batch; q likewise of squares, w likewise of ones
    mean = m / w,  variance = max(q / w - mean^2, min_variance)

    Before the first update returns stay as they are.

    Args:
        decay: Weight of the past in each update; near 1 all updates count about equally.
        min_variance: Floor of the variance, for returns that are almost equal.
    """

    averages: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, decay: float = 0.99999, min_variance: float = 1e-2) -> None:
        super().__init__()
        self.decay = decay
        self.min_variance = min_variance
        self.register_buffer("averages", torch.zeros(3, dtype=torch.float64))  # m, q, w
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def forward(self, return_TN: Tensor) -> Tensor:
        """Normalise returns of any shape."""
        return (return_TN - self.mean) / self.std

    def denormalize(self, value_TN: Tensor) -> Tensor:
        """Turn an output of the critic into a return, which undoes :meth:`forward`."""
        return value_TN * self.std + self.mean

    @torch.no_grad()
    def update(
        self, return_TN: Tensor, *, valid: Tensor | None = None, sum_over_ranks: SumOverRanks | None = None
    ) -> None:
        """Add one batch of returns; a batch without a valid entry changes nothing.

        Args:
            return_TN: Returns of any shape.
            valid: Bool of the same shape, False for entries that do not count.
            sum_over_ranks: Makes the batch the union over ranks, and all ranks must call.
        """
        valid = torch.ones_like(return_TN, dtype=torch.bool) if valid is None else valid
        kept = return_TN.double().masked_fill(~valid, 0.0)
        sums = torch.stack([kept.sum(), kept.square().sum(), valid.sum().double()])
        sums = (sum_over_ranks or _one_rank)(sums)
        count = sums[2]
        self.averages.lerp_(sums / count.clamp(min=1), (1 - self.decay) * (count > 0))
        m, q, w = self.averages
        mean, is_known = m / w, w > 0
        std = (q / w - mean.square()).clamp(min=self.min_variance).sqrt()
        self.mean.copy_(mean.where(is_known, 0.0))
        self.std.copy_(std.where(is_known, 1.0))


class ReturnScale(nn.Module):
    """Rewards over the standard deviation of the running discounted return (Engstrom 2020, arXiv:2005.12729).

    The mean is not subtracted: that would change what the task rewards.

    Args:
        gamma: Discount of the running return; the learner's own.
        clip: Scaled rewards are kept within plus and minus this.
        epsilon: Added to the variance.
    """

    def __init__(self, gamma: float, clip: float = 10.0, epsilon: float = 1e-8) -> None:
        super().__init__()
        self.gamma = gamma
        self.clip = clip
        self.moments = RunningNorm((), clip, epsilon)
        # no buffer: every rank has its own environments, and DDP would overwrite it with rank 0's
        self.return_N: Tensor | None = None

    def forward(self, reward_TN: Tensor) -> Tensor:
        """Scale and clip rewards of any shape."""
        return (reward_TN * self.moments.scale).clamp(-self.clip, self.clip)

    @torch.no_grad()
    def update(
        self,
        reward_TN: Tensor,
        done_TN: Tensor,
        begins_N: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        sum_over_ranks: SumOverRanks | None = None,
    ) -> None:
        """Advance the running returns of all environments and add them to the statistics.

        Args:
            reward_TN: Rewards as the environment gave them.
            done_TN: Bool, True where the episode ended.
            begins_N: Bool, True where an episode begins and what ran before is dropped; None if all go on.
            valid: Bool, False for entries that do not count; its axes are the first ones of the rewards.
            sum_over_ranks: Makes the batch the union over ranks, and all ranks must call.

        Raises:
            ValueError: Shapes disagree, or the number of environments changed although all go on.
        """
        check_same_shape(reward_TN=reward_TN, done_TN=done_TN)
        start_N = torch.zeros_like(reward_TN[0], dtype=torch.float64)
        if self.return_N is not None and (begins_N is None or self.return_N.shape == begins_N.shape):
            start_N = self.return_N.to(reward_TN.device)
        start_N = start_N if begins_N is None else start_N.masked_fill(begins_N, 0.0)
        return_TN, self.return_N = running_return(reward_TN, done_TN, start_N, self.gamma)
        self.moments.update(return_TN, valid=valid, sum_over_ranks=sum_over_ranks)

    def get_state(self) -> dict[str, Tensor]:
        """Return this rank's running returns; ``{}`` before the first update."""
        return {} if self.return_N is None else {"return_N": self.return_N.clone()}

    def set_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what :meth:`get_state` returned."""
        self.return_N = state["return_N"].clone() if "return_N" in state else None
