"""Stops training after a number of environment steps."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_rl.arguments import Count, check_arguments
from lit_rl.types import Learner, as_learner

_log = logging.getLogger("lit_rl")


class EnvStepBudget(Callback):
    """Stops after the first batch with which ``pl_module.env_steps`` reaches the budget.

    Lightning's ``max_steps`` counts env steps, too, and ends training at once. With a budget the final
    validation still runs, because the stop is asked for, not forced.

    Args:
        total_env_steps: Env steps of all environments and ranks together, counted from the very start of the
            run (a resumed run does only what is left). The last batch may pass it by less than one batch. It
            is the count of the learner: after ``load_from_checkpoint`` that goes on, ``reset_counters`` and
            ``init_from`` begin at 0.

    Raises:
        MisconfigurationException: ``total_env_steps`` is not positive.
        TypeError: The module is no learner.
    """

    _learner: Learner

    def __init__(self, total_env_steps: Count) -> None:
        check_arguments(EnvStepBudget, locals())
        self.total_env_steps = total_env_steps

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that is no learner."""
        self._learner = as_learner(pl_module, "EnvStepBudget")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do not train at all when a checkpoint has used up the budget already."""
        if self._is_spent():
            trainer.should_stop = True
            _log.warning(
                "The budget of %d env steps is spent: the checkpoint already has %d. Raise total_env_steps.",
                self.total_env_steps,
                self._learner.env_steps,
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask the trainer to stop once the budget is reached."""
        if self._is_spent():
            trainer.should_stop = True

    def _is_spent(self) -> bool:
        return self._learner.env_steps >= self.total_env_steps
