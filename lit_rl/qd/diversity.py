"""How different several arms are."""

from __future__ import annotations

import numpy as np


def cell_entropy(cells: np.ndarray) -> float:
    """Entropy in nats of the cells ``(bodies,)`` that bodies lie in: 0 when all lie in one."""
    _, counts = np.unique(cells, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def gene_distance(genes: np.ndarray, has_gene: np.ndarray) -> float:
    """Mean distance of all pairs of genotypes, over the genes that both of them use.

    Args:
        genes: ``(bodies, genes)`` in [0, 1].
        has_gene: ``(bodies, genes)`` bool, False for genes that do nothing in a body.

    Returns:
        Mean over pairs of the root mean square difference; 0 for fewer than two bodies.
    """
    if len(genes) < 2:
        return 0.0
    used = has_gene.astype(np.float64)
    mine = genes * used
    both = used @ used.T
    squares = (genes**2 * used) @ used.T
    total = np.maximum(squares + squares.T - 2 * mine @ mine.T, 0.0)
    distance = np.sqrt(total / np.maximum(both, 1.0))
    return float(distance[np.triu_indices(len(genes), 1)].mean())


def genes_in_use(num_joints: np.ndarray, num_genes: int, max_joints: int) -> np.ndarray:
    """Tell which genes of arms do something: the first one, and those of the joints that an arm has."""
    has_joint = np.arange(max_joints) < num_joints[:, None]
    parts = (num_genes - 1) // max_joints
    return np.concatenate([np.ones((len(num_joints), 1), bool), *[has_joint] * parts], 1)
