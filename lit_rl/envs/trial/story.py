"""Record what a batch of environments returns, and say where two records differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from lit_rl.nested import leaves, map_nested
from lit_rl.types import NestedArray, Step


class Story(NamedTuple):
    """Holds what a batch returned: the observation of ``reset``, then one ``Step`` per action."""

    first: NestedArray
    steps: list[Step]


def copied(step: Step) -> Step:
    """Copy every array of ``step``."""
    fields: list[Any] = [None if field is None else map_nested(np.array, field) for field in step]
    return Step(*fields)


def row_of(tree: NestedArray, i: int) -> NestedArray:
    """Return row ``i`` of every array."""
    return map_nested(lambda leaf: leaf[i], tree)


def environment_of(story: Story, i: int) -> Story:
    """Return what environment ``i`` returned, as if it were alone."""
    one = lambda leaf: leaf[i : i + 1]  # noqa: E731
    steps = []
    for step in story.steps:
        ended = step.terminated | step.truncated
        k = int(ended[:i].sum())
        final_obs = map_nested(lambda leaf, k=k: leaf[k : k + 1], step.final_obs) if ended[i] else None
        valid = None if step.valid is None else one(step.valid)
        flags = one(step.terminated), one(step.truncated)
        steps.append(
            Step(
                map_nested(one, step.obs),
                one(step.reward),
                *flags,
                final_obs,
                valid,
                map_nested(one, step.metrics),
            )
        )
    return Story(map_nested(one, story.first), steps)


def story_difference(one: Story, other: Story, start: int = 0) -> str | None:
    """Say where two stories that begin with step ``start`` differ first; None where they are equal."""
    if not is_same(one.first, other.first):
        return "the observation of reset"
    for t, (a, b) in enumerate(zip(one.steps, other.steps, strict=True), start):
        if field := step_difference(a, b):
            return f"{field} of step {t}"
    return None


def step_difference(one: Step, other: Step) -> str | None:
    """Name the first field in which two steps differ; None where they are equal."""
    return next(
        (field for field, a, b in zip(Step._fields, one, other, strict=True) if not is_same(a, b)), None
    )


def is_constant(story: Story) -> bool:
    """Say whether all environments see the same at all times."""
    example = row_of(story.first, 0)
    trees = [story.first, *(step.obs for step in story.steps), *(s.final_obs for s in story.steps)]
    return all(_is_everywhere(example, tree) for tree in trees if tree is not None)


def _is_everywhere(example: NestedArray, tree: NestedArray) -> bool:
    return all(leaves(map_nested(lambda one, rows: bool((rows == one).all()), example, tree)))


def is_same(one: Any, other: Any) -> bool:
    """Say whether two trees of arrays, tensors and plain values are equal; NaN equals NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    if one is None or other is None or isinstance(one, dict | list | tuple | str):
        return one == other
    a, b = np.asarray(one), np.asarray(other)
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")
