"""The losses of HMASD under the names of synchronous training."""

from __future__ import annotations

from torch import Tensor

from lit_rl import metrics


def named_losses(
    coordinator: dict[str, Tensor], discoverer: dict[str, Tensor | float], discriminators: Tensor
) -> dict[str, Tensor | float]:
    """Losses of each network, and ``loss/total``, their sum (Eqs. 6 to 8)."""
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
