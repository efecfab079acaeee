"""Settings of optimizers on a resume: what was changed takes effect, what changed by itself goes on.

An optimizer that loads a state also loads the settings of the run that saved it. So a checkpoint holds which
settings a learner gave to its optimizers, and where the learner gives others now, these hold.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from lightning.pytorch import Trainer
from torch.optim import Optimizer

from lit_rl.checks import is_plain

log = logging.getLogger("lit_rl")

Settings: TypeAlias = list[list[dict[str, Any]]]
"""Plain settings (``lr``, ``eps``, ...) of each parameter group of each optimizer."""

START = "initial_lr"
"""Setting in which a schedule of PyTorch keeps the learning rate from which it computes the present one."""


class OptimizerSettings:
    """What a learner gave to its optimizers, now and in the run that it goes on with.

    Attributes:
        given: Settings of this fit; None before.
        before: Settings that a checkpoint holds; None where there is none, or where it does not say.
    """

    def __init__(self) -> None:
        self.given: Settings | None = None
        self.before: Settings | None = None

    def note(self, trainer: Trainer) -> None:
        """Note what the learner gave to its optimizers, before they load a state."""
        self.given = settings_of(trainer.optimizers)

    def resume(self, trainer: Trainer) -> None:
        """Let changed settings take effect, after the optimizers loaded a state; say so in the log."""
        if trainer.ckpt_path is None or self.given is None:
            return
        for line in take_changes(trainer.optimizers, self.given, self.before):
            log.info("resumed: %s", line)
        for config in trainer.lr_scheduler_configs:
            groups = config.scheduler.optimizer.param_groups
            if hasattr(config.scheduler, "base_lrs") and all(START in group for group in groups):
                config.scheduler.base_lrs = [group[START] for group in groups]


def settings_of(optimizers: Iterable[Optimizer]) -> Settings:
    """Return the settings of optimizers, as plain types."""
    return [
        [{name: value for name, value in group.items() if _is_setting(name, value)} for group in each]
        for each in (optimizer.param_groups for optimizer in optimizers)
    ]


def take_changes(optimizers: Sequence[Optimizer], given: Settings, before: Settings | None) -> list[str]:
    """Set, in optimizers that loaded a state, what is given now and was not given before.

    A learning rate that had moved from where it began, by a schedule or otherwise, keeps its ratio to it.

    Args:
        optimizers: The optimizers, with the settings that they loaded.
        given: Settings that the learner gave to them when it made them now.
        before: Those that it gave in the run that saved the state. Checkpoints of earlier versions do not
            say: None takes those that were loaded.

    Returns:
        One line for each setting that was changed.
    """
    before = settings_of(optimizers) if before is None else before
    lines: dict[str, None] = {}  # once each, in order
    for optimizer, now_groups, old_groups in zip(optimizers, given, before, strict=False):
        for group, now, old in zip(optimizer.param_groups, now_groups, old_groups, strict=False):
            for name in sorted(now.keys() & old.keys() - {START, "lr"}):
                if now[name] != old[name]:
                    group[name] = now[name]
                    lines[f"{name} = {now[name]} replaces {old[name]} of the checkpoint"] = None
            rate, old_rate = now.get(START, now.get("lr")), old.get(START, old.get("lr"))
            if rate is not None and old_rate is not None and rate != old_rate:
                has_moved = group["lr"] != old_rate and old_rate != 0
                group["lr"] = group["lr"] * rate / old_rate if has_moved else rate
                if START in group:
                    group[START] = rate
                lines[f"learning rate {rate:g} replaces {old_rate:g} of the checkpoint"] = None
    return list(lines)


def _is_setting(name: str, value: Any) -> bool:
    return name != "params" and is_plain(value)
