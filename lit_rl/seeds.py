"""Seeds of what a run draws at random, which overlap neither with each other nor with those of other runs."""

from __future__ import annotations

from typing import Literal
from zlib import crc32

import numpy as np

Purpose = Literal["training", "evaluation", "actor", "rank"]
"""What is seeded: environments of training, those of evaluations, actors elsewhere, the streams of a rank."""

BITS = 30
"""Seeds stay below 2**30, so that what counts on from them still fits into 32 bits, signed ones as well."""


def derive(seed: int, purpose: Purpose, index: int = 0) -> int:
    """Return a seed for one purpose of a run, by numpy's ``SeedSequence``.

    Environment i of a batch is seeded with the batch's seed plus i. If runs counted on from their own seeds,
    those with seeds 1 and 2 would share all environments but one; so each purpose of each run counts on from
    a number of its own. Two of these lie closer together than n with a chance of n / 2**29.

    Args:
        seed: Seed of the run, any integer.
        purpose: What is seeded.
        index: Number among those of the same purpose, at least 0.

    Returns:
        An integer from 0 to 2**30 - 1, equal on all machines.
    """
    entropy = [seed % 2**64, crc32(purpose.encode()), index]
    return int(np.random.SeedSequence(entropy).generate_state(1)[0] >> (32 - BITS))
