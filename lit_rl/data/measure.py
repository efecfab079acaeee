"""Measures planar arms with a policy, in one process or a share in each worker of a collector."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from lit_rl.collect.evaluate import evaluate
from lit_rl.collect.random_state import seeded_apart
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.body import ArmSpace
from lit_rl.qd.arms import Goals, measure_arms
from lit_rl.qd.fitness import Fitness
from lit_rl.qd.search import Measured
from lit_rl.types import Policy


@dataclass(frozen=True)
class Measurement:
    """Says how bodies are measured.

    Args:
        space: Arms that the genes describe.
        goals: Episodes of each arm.
        fitness: The objective.
        settings: Settings of the arms.
    """

    space: ArmSpace
    goals: Goals
    fitness: Fitness
    settings: dict[str, Any]


def measure_with(
    policy: Policy,
    how: Measurement,
    genes: np.ndarray,
    num_before: int = 0,
    device: torch.device | str = "cpu",
) -> Measured:
    """Measure bodies with the greedy policy, in one batch; the random generators go on as before.

    Args:
        policy: The policy.
        how: Settings of the measurement.
        genes: ``(bodies, genes)``.
        num_before: Bodies that are measured elsewhere and come before these, so that these meet the episodes
            that they would meet in one batch of all.
        device: Device of the policy.
    """

    def play(arms: PlanarArms, seed: int) -> tuple[np.ndarray, np.ndarray]:
        first = seed + num_before * len(how.goals.places)
        last = evaluate(policy, arms, first, device)["last_values"]
        return last["is_success"].numpy(), last["distance_m"].numpy()

    with seeded_apart(how.goals.seed):
        return measure_arms(how.space, genes, how.goals, play, how.fitness, **how.settings)


def measure_over_workers(
    collector: WorkersCollector, policy: Policy, version: int, how: Measurement, genes: np.ndarray
) -> Measured:
    """Measure bodies as :func:`measure_with` does, a share of them in each worker, at the same time.

    Args:
        collector: Has the workers; one that is lost is replaced, and its share measured again.
        policy: The policy.
        version: Its number.
        how: Settings of the measurement.
        genes: ``(bodies, genes)``.
    """
    bounds = [len(genes) * w // collector.num_workers for w in range(collector.num_workers + 1)]
    is_body = np.asarray(np.isfinite(genes).all(axis=1))  # others are not played
    shares = [(how, genes[start:stop], int(is_body[:start].sum())) for start, stop in pairwise(bounds)]
    parts: list[Measured] = collector.with_policy(policy, version, measure_with, shares)
    return Measured(
        np.concatenate([part.objective for part in parts]),
        np.concatenate([part.measures for part in parts]),
        [problem for part in parts for problem in part.problems or ()],
    )
