"""Seeds of runs, purposes and ranks are apart, and equal on all machines."""

from __future__ import annotations

import itertools
from typing import get_args

from lit_rl.seeds import BITS, Purpose, derive

PURPOSES = get_args(Purpose)


def test_seeds_are_those_of_seed_sequence():
    """By hand: crc32(b"training") = 3574762127; the upper 30 of the first 32 bits."""
    assert derive(0, "training") == 793646023
    assert derive(1, "training") == 958807726
    assert derive(1, "evaluation", 2) != derive(1, "evaluation", 1)
    assert derive(2**64 + 1, "training") == derive(1, "training")
    assert derive(-1, "training") == derive(2**64 - 1, "training")


def test_they_are_near_each_other_by_chance_alone():
    """Of 6,400 seeds in 2**30, two or three pairs lie within 64 of each other by chance."""
    seeds = sorted(derive(s, purpose, i) for s in range(200) for purpose in PURPOSES for i in range(8))
    assert seeds[0] >= 0
    assert seeds[-1] < 2**BITS
    near = sum(later - earlier < 64 for earlier, later in itertools.pairwise(seeds))
    assert near <= 6
