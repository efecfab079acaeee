"""The environments of a bundled policy: where its pairs are recorded, and where it is tried.

Axes: N environments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import SyncVectorEnv
from torch import Tensor

from lit_rl.bundle.onnx_policy import OnnxPolicy
from lit_rl.collect.evaluate import evaluate
from lit_rl.env_units import observation_to_env
from lit_rl.envs.vector import make_vector_env
from lit_rl.nested import map_nested, named_leaves
from lit_rl.types import Decision, Deployable, Episodes, Nested, VectorEnv, without_critic

SEED = 900_001
"""Episodes of a trial begin from this seed on; those of training and evaluation begin elsewhere."""

MakeWorld = Callable[[int, Mapping[str, Any], Sequence[str]], VectorEnv]
"""Takes the number of environments, arguments that differ, and what is to be recorded."""


def world_of(env: Any, env_kwargs: Mapping[str, Any], wrappers: Sequence[Any] = ()) -> MakeWorld:
    """Return what makes environments like those of training, with some arguments changed.

    Args:
        env: Gymnasium id, or a callable, as ``make_vector_env`` takes it.
        env_kwargs: Arguments of the environment in training.
        wrappers: Wrappers of each single environment.
    """

    def make(num_envs: int, changed: Mapping[str, Any], record: Sequence[str]) -> VectorEnv:
        return make_vector_env(
            env, num_envs, env_kwargs={**env_kwargs, **changed}, wrappers=wrappers, record=record, check=False
        )

    return make


def deployable(env: VectorEnv) -> Deployable | None:
    """Return what describes the machine: the batch, or a copy without its wrappers; else None."""
    copies = getattr(env, "envs", None)
    single = copies.envs[0].unwrapped if isinstance(copies, SyncVectorEnv) else None
    return next((found for found in (env, single) if isinstance(found, Deployable)), None)


class Driver:
    """Lets a bundled policy play a ``VectorEnv``, which speaks the numbers of policies, not of environments.

    Args:
        policy: The policy in onnxruntime.
    """

    def __init__(self, policy: OnnxPolicy) -> None:
        self._policy = policy
        self._spec = policy.contract.env_spec
        start = self._spec.action.start
        self._start = np.array(start).reshape(self._spec.action.shape) if start else None

    def initial_carry(self, num_envs: int) -> Nested:
        """Return the memory before the first step."""
        return map_nested(torch.from_numpy, self._policy.initial_memory(num_envs))

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Decide; a bundled policy is always greedy."""
        of_env = observation_to_env(self._spec.observation, without_critic(obs))
        seen = {name: leaf.numpy() for name, leaf in named_leaves(of_env, "obs")}
        memory: Any = map_nested(lambda leaf: leaf.numpy(), carry)
        action, memory = self._policy.act(seen, memory, np.asarray(reset))
        action = action if self._start is None else action - self._start
        return Decision(torch.from_numpy(action), map_nested(torch.from_numpy, memory), {})


def play(policy: OnnxPolicy, env: VectorEnv) -> Episodes:
    """Play one episode in each environment, and close them."""
    try:
        return evaluate(Driver(policy), env, SEED)
    finally:
        env.close()
