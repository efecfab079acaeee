"""Learning from rollouts that an older version of the policy collected.

Axes: T steps, N environments, A agents; (T, N) stands for (T, N, A) where there are agents.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from lit_rl import metrics
from lit_rl.types import Rollout


class Lag:
    """What a learner does about rollouts that were collected ahead, by an older version of its policy."""

    def __init__(self) -> None:
        self.longest = 0
        """Updates by which the policy that acted may be older; 0 is strictly on-policy."""
        self.is_accepted = False
        """Whether the learner corrects for it."""

    def allow(self, learner: nn.Module, trainer: Trainer) -> None:
        """Take ``max_policy_lag`` of the data module, and let the policy record what corrects for it.

        Raises:
            ValueError: The learner cannot correct for it.
        """
        datamodule = getattr(trainer, "datamodule", None)
        self.longest = int(getattr(datamodule, "max_policy_lag", 0))
        if self.longest and not self.is_accepted:
            raise ValueError(
                f"max_policy_lag = {self.longest} needs a learner that corrects for older policies (PPO), "
                f"got {type(learner).__name__}; set max_policy_lag to 0"
            )
        for module in learner.modules():
            if self.longest and hasattr(module, "records_log_prob"):
                module.records_log_prob = True  # type: ignore[assignment]  # a plain attribute

    def behaviour(self, replayed: Any, rollout: Rollout) -> tuple[Any, dict[str, Tensor | float]]:
        """Put the log-probabilities under which actions were chosen in place of those of the present policy.

        Args:
            replayed: A named tuple with ``log_prob`` of the present policy.
            rollout: The rollout; without lag the two policies are one.

        Returns:
            The named tuple, and values to log of how far the two policies are apart.
        """
        if not self.longest:
            return replayed, {}
        log_prob, values = compare_with_behaviour(replayed.log_prob, rollout)
        return replayed._replace(log_prob=log_prob), values


@torch.no_grad()
def compare_with_behaviour(log_prob_TN: Tensor, rollout: Rollout) -> tuple[Tensor, dict[str, Tensor | float]]:
    """Compare the present policy with the one that acted, mu.

    w[t]  = pi(a[t] | s[t]) / mu(a[t] | s[t])
    share = (sum w)^2 / (sum w^2 * number of w), which is 1 when the two policies are one

    Args:
        log_prob_TN: Log-probabilities of the actions under the present policy pi.
        rollout: The rollout, whose ``extras`` hold the log-probabilities when the actions were chosen.

    Returns:
        Log-probabilities under mu, and values to log.
    """
    behaviour_TN = rollout["extras"]["log_prob"]
    ratio = (log_prob_TN - behaviour_TN).double().exp()
    if rollout["valid"] is not None:
        ratio = ratio[rollout["valid"]]
    share = ratio.sum().square() / (ratio.square().sum() * ratio.numel())
    return behaviour_TN, {
        metrics.LAG_RATIO: ratio.mean(),
        metrics.LAG_RATIO_MAX: ratio.max(),
        metrics.LAG_SAMPLE_SHARE: share,
    }
