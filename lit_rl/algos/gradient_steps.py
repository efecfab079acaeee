"""Optimizer steps that are the same on all ranks, for learners and their parts, and their learning rate."""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lit_rl.nets import FlatParameters, clip_factor


class GradientSteps(LightningModule):
    """A module that trains its own parameters; a learner, or a part of one, which shares its trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def raw_optimizers(self) -> list[torch.optim.Optimizer]:
        """The optimizers without Lightning's wrapper, which counts beside a small gradient step."""
        optimizers = self.optimizers(use_pl_optimizer=False)
        return optimizers if isinstance(optimizers, list) else [optimizers]

    def optimize(
        self,
        optimizer: torch.optim.Optimizer,
        loss: Tensor,
        flat: FlatParameters,
        max_grad_norm: float | None = None,
    ) -> None:
        """Backward of ``loss`` into ``flat``, then :meth:`step`."""
        flat.grad.zero_()
        loss.backward()
        self.step(optimizer, flat.grad, max_grad_norm)

    def step(
        self, optimizer: torch.optim.Optimizer, grad: Tensor, max_grad_norm: float | None = None
    ) -> None:
        """Average ``grad`` (P,) over ranks in place, clip its norm, step."""
        self.mean_over_ranks(grad)
        if max_grad_norm is not None:
            grad.mul_(clip_factor(grad, max_grad_norm))
        optimizer.step()

    def mean_over_ranks(self, tensor: Tensor) -> Tensor:
        """Replace ``tensor`` by its mean over ranks, in place."""
        if self._world_size > 1:
            torch.distributed.all_reduce(tensor)
            tensor /= self._world_size
        return tensor

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """Replace ``tensor`` by its sum over ranks, in place."""
        if self._world_size > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    @property
    def _world_size(self) -> int:
        return self._trainer.world_size if self._trainer is not None else 1


def linear_schedule(env_steps: int, anneal_env_steps: int | None) -> float:
    """Factor from 1 at the start to 0 at ``anneal_env_steps``; 1 forever when that is None."""
    return 1.0 if anneal_env_steps is None else max(0.0, 1.0 - env_steps / anneal_env_steps)
