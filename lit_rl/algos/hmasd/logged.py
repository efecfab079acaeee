"""The names under which the losses of HMASD are logged."""

from __future__ import annotations

from torch import Tensor

from lit_rl import metrics


def named_losses(
    coordinator: dict[str, Tensor], discoverer: dict[str, Tensor | float], discriminators: Tensor
) -> dict[str, Tensor | float]:
    """Name the losses of each network, and their sum ``loss/total`` (Eqs. 6 to 8).

    Args:
        coordinator: Losses that ``SkillCoordinator.learn`` returned.
        discoverer: Values that the update of the skill discoverer logs.
        discriminators: Sum of the losses of both discriminators.
    """
    total = coordinator["total"] + discoverer[metrics.LOSS_TOTAL] + discriminators
    return {
        metrics.LOSS_TOTAL: total,
        metrics.COORDINATOR_TOTAL: coordinator["total"],
        metrics.COORDINATOR_POLICY: coordinator["policy"],
        metrics.COORDINATOR_VALUE: coordinator["value"],
        metrics.COORDINATOR_KL: coordinator["kl"],
        metrics.DISCOVERER_TOTAL: discoverer[metrics.LOSS_TOTAL],
        metrics.DISCOVERER_POLICY: discoverer[metrics.LOSS_POLICY],
        metrics.DISCOVERER_VALUE: discoverer[metrics.LOSS_VALUE],
        metrics.DISCRIMINATOR_TOTAL: discriminators,
        metrics.ENTROPY_DISCOVERER: discoverer[metrics.ENTROPY],
    }
