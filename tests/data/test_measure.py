"""Bodies that are measured in one batch, or a share in each worker."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from lit_rl.data.measure import Measurement, measure_over_workers, measure_with
from lit_rl.envs.arm.task import make_task
from lit_rl.qd.arms import fresh_goals
from lit_rl.qd.fitness import arm_fitness
from lit_rl.types import Decision, Nested

SETTINGS: dict[str, Any] = {"joints": [3, 4], "num_bodies": 4, "num_steps": 6, "morph": True}


class Leans:
    """Turns each joint by what the arm itself sees, so that other start poses end elsewhere."""

    def initial_carry(self, num_envs: int) -> Nested:
        return {}

    def act(self, obs: Nested, carry: Nested, reset: torch.Tensor, *, greedy: bool = False) -> Decision:
        leaf = next(leaf for leaf in _leaves(obs) if leaf.dtype.is_floating_point)
        return Decision(leaf.flatten(1)[:, :4].clamp(-1, 1), {}, {})


def _leaves(tree: Any) -> list[torch.Tensor]:
    return [leaf for value in tree.values() for leaf in _leaves(value)] if isinstance(tree, dict) else [tree]


class InTurn:
    """Stands in for a collector: what its workers would do is done here, one after the other."""

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers

    def with_policy(self, policy: Any, version: int, function: Any, arguments: list[Any]) -> list[Any]:
        assert len(arguments) == self.num_workers
        return [function(policy, *own) for own in arguments]


def test_shares_are_measured_as_the_whole():
    """Each body meets the episodes that it meets in one batch of all, also behind a failed one."""
    space = make_task(SETTINGS).space
    genes = np.random.default_rng(0).random((7, space.num_genes))
    genes[2] = np.nan
    how = Measurement(space, fresh_goals(5, 3), arm_fitness, SETTINGS)
    whole = measure_with(Leans(), how, genes)
    assert np.isnan(whole.objective).tolist() == [i == 2 for i in range(7)]
    assert len(np.unique(whole.objective[~np.isnan(whole.objective)])) == 6
    for num_workers in (1, 2, 3, 9):
        shares = measure_over_workers(InTurn(num_workers), Leans(), 0, how, genes)
        np.testing.assert_array_equal(shares.objective, whole.objective)
        np.testing.assert_array_equal(shares.measures, whole.measures)
        assert list(shares.problems) == list(whole.problems)
