"""Mutate every shipped configuration, and count what a user would not understand.

    python -m tests.mutations --seeds 0 1000      # 1,000 mutations, then one bad value per argument

A mutation changes one thing of one shipped file, in a small size; its number is the seed. Each runs
``lit-rl fit`` for a few batches in a forked process. What comes of it is one of

- ``refused``: the exit status is not 0, and one line of at most 600 characters names the key (or the line);
- ``trained``: the exit status is 0, and nothing of the below is found;
- ``unclear``: it was refused in more than three lines, without the name of what was changed, or with a
  message that was not written for users;
- ``nonsense``: the exit status is 0, but weights or losses are not finite, no weight was changed, no env step
  was trained on, or the learning rate is not above 0, above 1, or rises (without ``adaptive_kl``);
- ``endless``: it takes longer than a minute;
- ``trace``: there is a stack trace, or the process was killed by a signal.
"""

from __future__ import annotations

import argparse
import collections
import random
import sys
import time
from collections.abc import Iterator
from typing import Any

import yaml

from tests.mutations import small
from tests.mutations.arguments import cases_of_arguments
from tests.mutations.case import Case
from tests.mutations.mutate import mutate
from tests.mutations.trial import attempt, prepare

BAD = ("unclear", "nonsense", "endless", "trace")


def case_of(seed: int) -> Case:
    """Return the mutation of this number."""
    names = small.names()
    name = names[seed % len(names)]
    mutation = mutate(small.in_process(small.small(name)), random.Random(seed))
    base = small.base_of(name)
    files = {"mutated.yaml": mutation.text}
    if base is not None:
        files["base.yaml"] = yaml.safe_dump(small.in_process(small.small(base)))
    return Case(f"{seed} {name}: {mutation.what}", files, mutation.names)


def run(cases: Iterator[Case], is_verbose: bool) -> collections.Counter[str]:
    """Try cases, print those that end badly, and count how they end."""
    counts: collections.Counter[str] = collections.Counter()
    for case in cases:
        start = time.monotonic()
        outcome = attempt(case.argv, case.names, case.files)
        counts[outcome.kind] += 1
        if outcome.kind in BAD or is_verbose:
            seconds = time.monotonic() - start
            sys.stdout.write(f"[{outcome.kind}] {case.what} ({seconds:.1f} s)\n    {outcome.text}\n")
            sys.stdout.flush()
    return counts


def main(argv: list[str] | None = None) -> dict[str, int]:
    """Try mutations and bad values; print how many end in each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs=2, default=(0, 1000), metavar=("FIRST", "END"))
    parser.add_argument("--arguments", choices=("yes", "no", "only"), default="yes")
    parser.add_argument("--verbose", action="store_true")
    given: Any = parser.parse_args(argv)
    prepare()
    counts: collections.Counter[str] = collections.Counter()
    if given.arguments != "only":
        counts += run(map(case_of, range(*given.seeds)), given.verbose)
    if given.arguments != "no":
        counts += run(cases_of_arguments(), given.verbose)
    order = ("refused", "trained", *BAD)
    sys.stdout.write(", ".join(f"{counts[kind]} {kind}" for kind in order) + "\n")
    return counts


if __name__ == "__main__":
    found = main()
    sys.exit(any(found[kind] for kind in BAD))
