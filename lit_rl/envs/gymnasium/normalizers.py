"""Wrappers of Gymnasium that normalise by running statistics, which lit_rl leaves to the learner."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gymnasium import wrappers
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import vector

_OBSERVATION = (wrappers.NormalizeObservation, vector.NormalizeObservation)
_REWARD = (wrappers.NormalizeReward, vector.NormalizeReward)


def normalizer_hints(env: Any) -> list[str]:
    """Say of each normaliser among the wrappers what it does to a run, and what to write in its place.

    Args:
        env: An environment of Gymnasium, or a batch of copies with wrappers of either kind.
    """
    found = list(_layers(env))
    hints = []
    if any(isinstance(layer, _OBSERVATION) for layer in found):
        hints.append(
            "the wrapper NormalizeObservation has statistics of its own in each environment: evaluations "
            "begin with fresh ones, and no checkpoint or exported policy holds them; leave it out and set "
            "normalize_observation: true of the learner (PPO, SAC, HMASD, PopulationPPO)"
        )
    if any(isinstance(layer, _REWARD) for layer in found):
        hints.append(
            "the wrapper NormalizeReward has statistics of its own in each environment: evaluations "
            "begin with fresh ones and report returns in no unit, and no checkpoint holds them; leave it out "
            "and set normalize_return: true of the learner (PPO, PopulationPPO)"
        )
    return hints


def _layers(env: Any) -> Iterator[Any]:
    """Yield an environment and what it wraps; of a batch of copies also the layers of the first copy."""
    while True:
        yield env
        if isinstance(env, SyncVectorEnv):
            yield from _layers(env.envs[0])
            return
        inner = getattr(env, "env", None)
        if inner is None:
            return
        env = inner
