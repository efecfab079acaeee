"""The minibatches of off-policy learners.

Axes: M minibatches, B samples (transitions), U action dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Any, TypeAlias

from lit_rl.algos.action_box import ActionBox
from lit_rl.nested import map_nested
from lit_rl.types import Nested, ReplayBatch

Minibatch: TypeAlias = dict[str, Any]
"""``obs`` and ``next_obs`` (B, ...), ``action`` (B, U) in [-1, 1], ``reward`` and ``discount`` (B,)."""


def minibatches(
    batch: ReplayBatch, box: ActionBox, see: Callable[[Nested], Nested] = lambda obs: obs
) -> Iterator[Minibatch]:
    """Yield the M minibatches of ``batch`` one after the other, with actions scaled to [-1, 1].

    Args:
        batch: What ``training_step`` was given.
        box: Bounds of the actions.
        see: Turns observations into what the networks see; they stay as they are without it.
    """
    transitions = {
        "obs": see(batch["obs"]),
        "next_obs": see(batch["next_obs"]),
        "action": box.from_env(batch["action"]),
        "reward": batch["reward"],
        "discount": batch["discount"],
    }
    for m in range(len(batch["reward"])):
        yield map_nested(itemgetter(m), transitions)
