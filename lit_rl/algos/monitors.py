"""Names that callbacks watch: those that nothing logs are refused before training.

What a learner or callback of lit_rl logs stands in its help, after ``Logs``, and a test holds the help to it.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LambdaCallback

import lit_rl
from lit_rl.metrics import METRICS

log = logging.getLogger("lit_rl")

_KNOWN_PACKAGES = ("lit_rl", "lightning")


def promised(kind: type) -> set[str]:
    """Return the names that the help of a learner or callback says it logs, some with ``*``.

    Args:
        kind: The class. What its base classes and the classes that it refers to ("what ``PPO`` logs") say
            counts, too.
    """
    found: set[str] = set()
    for cls in kind.__mro__:
        text = (cls.__doc__ or "").partition("Logs")[2].partition("Args:")[0]
        found.update(re.findall(r"``([\w*]+/[\w*/]+)``", text))
        for other in re.findall(r"what\s+``(\w+)``\s+logs", text):
            if other in lit_rl.__all__ and other != cls.__name__:
                found |= promised(getattr(lit_rl, other))
    return found


def logged_names(classes: Iterable[type]) -> list[str]:
    """List all names that the ``classes`` may log; ``*`` stands for a number or for the name of a value."""
    patterns = set[str]().union(*map(promised, classes))
    names = (f"{name}*" if name.endswith("/") else name.replace("{}", "*") for name in METRICS)
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def check_monitors(trainer: Trainer, module: LightningModule) -> None:
    """Refuse a callback that watches a name which is never logged, as far as that can be known.

    A name that comes late (the mean return, before an episode has ended) is waited for. With a learner or a
    callback of the user's own, who may log what they like, no name is refused.

    Raises:
        ValueError: Nothing logs the name; the message lists the names there are.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # set later
    classes = [type(module), *map(type, callbacks)]
    names = logged_names(classes)
    is_complete = all(map(_is_known, classes))
    for callback in callbacks:
        monitor = _monitor(callback)
        if monitor is None:
            continue
        is_known = any(fnmatchcase(monitor, name) for name in names)
        if not is_known and is_complete:
            raise ValueError(_refusal(type(callback).__name__, monitor, names))
        is_of_evaluation = monitor.startswith("eval/")
        if is_of_evaluation and not trainer.enable_validation and isinstance(callback, EarlyStopping):
            raise ValueError(
                f"EarlyStopping watches {monitor!r}, but nothing is evaluated: set trainer.limit_val_batches "
                "above 0, or watch a value of training such as episode/return_mean"
            )
        if is_known and not is_of_evaluation and isinstance(callback, EarlyStopping):
            callback.strict = False  # Lightning would end a run whose first episode is longer than an epoch


def report_waiting(trainer: Trainer, told: set[str]) -> None:
    """Say once which names are watched but were not logged yet; called at the end of an epoch.

    Args:
        trainer: The trainer, with its callbacks.
        told: Names that were reported before; those reported now are added.
    """
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]  # set later
    for callback in callbacks:
        monitor = _monitor(callback)
        if monitor is None or monitor in trainer.callback_metrics or monitor in told:
            continue
        if monitor.startswith("eval/"):
            continue  # evaluations report for themselves
        told.add(monitor)
        log.warning(
            "%s waits for %s, which was not logged yet (no episode ended, or nothing reported it)",
            type(callback).__name__,
            monitor,
        )


def _is_known(kind: type) -> bool:
    """Tell whether a class comes from lit_rl or Lightning, and does not call functions of a user."""
    return kind.__module__.partition(".")[0] in _KNOWN_PACKAGES and not issubclass(kind, LambdaCallback)


def _monitor(callback: Any) -> str | None:
    """Return what a callback watches; None when it watches nothing."""
    monitor = getattr(callback, "monitor", None)
    is_off = getattr(callback, "save_best", True) is False
    return monitor if isinstance(monitor, str) and not is_off else None


def _refusal(callback: str, monitor: str, names: list[str]) -> str:
    near = difflib.get_close_matches(monitor, names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{callback} watches {monitor!r}, which nothing logs; {hint}logged are {', '.join(names)}"
