"""Experience seen in a mirror, as further samples (Mittal 2024, arXiv:2403.04359).

Axes: T steps, N environments.
"""

from __future__ import annotations

from typing import Any

import torch

from lit_rl.nested import map_nested
from lit_rl.types import EnvSpec, Mirror, Nested


def reflect(tree: Nested, mirror: Any) -> Nested:
    """Return the mirror image of an observation or action.

    Args:
        tree: Leaves (..., numbers).
        mirror: A ``Mirror`` for each leaf.
    """
    if isinstance(mirror, Mirror):
        return tree[..., mirror.source] * tree.new_tensor(mirror.sign)
    return {key: reflect(tree[key], each) for key, each in mirror.items()}


def with_mirror_images(samples: dict[str, Any], obs: Nested, spec: EnvSpec) -> dict[str, Any]:
    """Append to samples (T, N, ...) their mirror images, as steps of N further environments.

    An image has the advantage, the value and, since the policy shall be symmetric, the old log-probability of
    what it is the image of.

    Args:
        samples: Samples of PPO.
        obs: Observations of the mirror images, as the networks see them, (T, N, ...).
        spec: Observation and action of the environment, with its mirror.

    Returns:
        Samples (T, 2 N, ...).
    """
    assert spec.mirror is not None
    images = samples | {"obs": obs, "action": reflect(samples["action"], spec.mirror["action"])}
    return map_nested(lambda own, image: torch.cat([own, image], 1), samples, images)


def check_mirror(spec: EnvSpec) -> None:
    """Refuse environments that do not say how they look in a mirror.

    Raises:
        ValueError: ``spec`` has no mirror.
    """
    if spec.mirror is None:
        raise ValueError(
            "PPO: symmetry_augmentation = true needs an environment that knows its mirror image, "
            f"{spec.name} has no mirror in its spec (the native batch of GO2-v0 has one: "
            "vectorization = auto, or collector = workers); leave it false"
        )
