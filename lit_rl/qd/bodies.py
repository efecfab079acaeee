"""Bodies to train a shared policy on, and what a search asks of whoever plays that policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from lit_rl.qd.grid import Grid
from lit_rl.qd.search import Measured

Training = Literal["pretrained", "fine_tuned", "co_trained", "independent"]
"""How policy and bodies come together: ``pretrained`` trains on random bodies only, and bodies are searched
with the finished policy; ``fine_tuned`` trains on random bodies first, then on the elites; ``co_trained``
trains on elites, random bodies and mutants from the start. These share one policy; ``independent`` trains one
for each body that the search asks for, from its first weights on, and measures the body with it."""


@runtime_checkable
class BeginsAnew(Protocol):
    """Trains a policy for each body, and forgets them all when other bodies come."""

    def begin_anew(self) -> None:
        """Go on with first weights, statistics and optimizer states."""
        ...


@runtime_checkable
class MeasuresBodies(Protocol):
    """Plays the policy that is trained in bodies, and trains it on some of them."""

    grid: Grid
    num_genes: int
    training: Training
    pretrain_env_steps: int
    training_genes: np.ndarray

    def measure(self, genes: np.ndarray, fresh: int | None = None) -> Measured:
        """Measure bodies on the fixed episodes, or on others that the number ``fresh`` decides."""
        ...

    def describe(self, genes: np.ndarray) -> list[dict[str, Any]]:
        """Describe the body of each genotype in plain types, for a drawing; ``kind`` says what it is."""
        ...

    def film(self, genes: np.ndarray, path: Path) -> None:
        """Write an episode of the policy in the body of one genotype ``(genes,)`` as a GIF."""
        ...

    def train_on(self, elites: np.ndarray) -> None:
        """Take bodies to train on from these genotypes, from the next ones on."""
        ...

    def diversity(self) -> tuple[float, float]:
        """Return entropy over cells and mean gene distance of the bodies that are trained on."""
        ...


def choose_bodies(
    rng: np.random.Generator,
    num: int,
    elites: np.ndarray,
    shares: tuple[float, float, float],
    num_sizes: int,
    num_genes: int,
    mutation: float = 0.1,
) -> np.ndarray:
    """Choose genotypes ``(num, genes)`` from elites, random bodies and mutants of elites.

    Sizes (the intervals of the first gene) are equally frequent: among random bodies exactly, among elites
    as far as there are any of a size, each elite of a size with the same chance. Choosing by fitness instead
    would train on fewer and fewer kinds of bodies.

    Args:
        rng: What is drawn from.
        num: Number of bodies.
        elites: ``(elites, genes)``; where there are none, all bodies are random.
        shares: Shares of elites, random bodies and mutants.
        num_sizes: Number of sizes between which the first gene chooses.
        num_genes: Numbers in a genotype.
        mutation: Standard deviation of the change of each gene of a mutant.
    """
    num_elites = round(num * shares[0] / sum(shares)) if len(elites) else 0
    num_mutants = min(round(num * shares[2] / sum(shares)), num - num_elites) if len(elites) else 0
    num_random = num - num_elites - num_mutants
    drawn = rng.random((num_random, num_genes))
    size = (np.arange(num_random) + rng.integers(num_sizes)) % num_sizes
    drawn[:, 0] = (size + drawn[:, 0]) / num_sizes
    if not len(elites):
        return drawn
    size_of = np.minimum((elites[:, 0] * num_sizes).astype(np.int64), num_sizes - 1)
    groups = [np.flatnonzero(size_of == k) for k in np.unique(size_of)]
    of_group = (np.arange(num_elites + num_mutants) + rng.integers(len(groups))) % len(groups)
    rows = np.array([groups[k][rng.integers(len(groups[k]))] for k in of_group], np.int64)
    chosen = elites[rows]
    chosen[num_elites:] += mutation * rng.standard_normal((num_mutants, num_genes))
    return np.concatenate([chosen.clip(0.0, 1.0), drawn])
