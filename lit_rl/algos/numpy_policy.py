"""Policies as people write them: numpy in, numpy out, in the units of the environment.

A policy is loaded and asked by two lines::

    policy = lit_rl.load("runs/ppo_cartpole/latest/checkpoints/best.ckpt")
    action = policy.predict(obs)

Axes: N environments, A agents, S state features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from lit_rl.algos.export import example_observation, load_policy
from lit_rl.algos.module import RLModule
from lit_rl.algos.names import Named
from lit_rl.env_units import ActionToEnv, input_dtype, observation_from_env
from lit_rl.types import ACTION_MASK, ALIVE, CRITIC, OBSERVATION, STATE, EnvSpec, LeafSpec, without_critic


def load(checkpoint: str | Path, classes: Sequence[Named] = (), **arguments: Any) -> NumpyPolicy:
    """Load the policy of a checkpoint, on the CPU, to be asked for actions.

    ``classes`` and ``arguments`` are those of :func:`load_policy`, which reads the checkpoint as data.

    Raises:
        ValueError: The file is no checkpoint of lit_rl, or names a class that is neither of lit_rl nor given.
    """
    return NumpyPolicy(load_policy(checkpoint, classes, **arguments))


class NumpyPolicy:
    """Chooses actions for observations as the environment returns them.

    A policy with memory remembers what it has seen since :meth:`reset`, for as many environments as it was
    asked for then.

    Args:
        learner: A learner whose networks are built, as :func:`load_policy` returns it.

    Attributes:
        learner: The learner.
        spec: The environment it was trained on.
    """

    def __init__(self, learner: RLModule) -> None:
        self.learner, self.spec = learner, cast("EnvSpec", learner.spec)
        self._seen = self.spec.of_actor().observation
        self._to_env = ActionToEnv(self.spec.action)
        self._agents = [len(self.spec.agents)] if self.spec.agents else []
        self.reset()

    def reset(self) -> None:
        """Forget what was seen: new episodes begin, of any number of environments."""
        self._carry: Any = None
        self._num_envs = 0

    @torch.no_grad()
    def predict(
        self,
        obs: Any,
        deterministic: bool = True,
        episode_start: ArrayLike | None = None,
        global_state: ArrayLike | None = None,
    ) -> Any:
        """Choose the action for one observation, or one for each of N.

        Args:
            obs: An observation of the environment ``(*shape)``, or N of them ``(N, *shape)``; a Dict has such
                arrays at its keys. With several agents it is what PettingZoo returns, an observation by
                name of each agent that acts (a dict of ``observation`` and ``action_mask`` where there are
                masks; shorter ones are filled up with zeros, as ``pad`` does), or arrays ``(A, *shape)`` or
                ``(N, A, *shape)``.
            deterministic: Whether to take the most likely action; otherwise it is drawn, from the global
                generator of torch.
            episode_start: Whether an episode begins with the observation, for all or for each of N: what
                the policy remembers of the one before is dropped. None says that none begins.
            global_state: ``env.state()``, ``(S)`` or ``(N, S)``, for policies whose actions depend on it
                (HMASD).

        Returns:
            The action ``(*shape)``, or ``(N, *shape)``, in the dtype of the environment, boxes clipped to
            their bounds; with observations by agent, a dict of the actions of those agents.

        Raises:
            ValueError: An observation is not as the environment of the checkpoint has it, or there are more
                or fewer than the policy remembers.
        """
        is_by_agent = bool(self.spec.agents) and isinstance(obs, Mapping) and self._is_by_agent(obs)
        names = list(obs) if is_by_agent else []
        if is_by_agent and not names:
            return {}
        arranged = self._of_agents(obs) if is_by_agent else without_critic(obs)
        leads: list[int | None] = []
        seen = observation_from_env(self._seen, self._tensors(self._seen, arranged, OBSERVATION, leads))
        if len(set(leads)) > 1:
            raise ValueError(
                f"observation: all keys must have as many rows, got {sorted(set(map(str, leads)))}"
            )
        num_envs = leads[0] or 1 if leads[0] is not None else 1
        given = (
            arranged.get(STATE) if isinstance(arranged, Mapping) and global_state is None else global_state
        )
        seen = self._complete(seen, given, num_envs)
        carry, reset = self._remembered(num_envs, episode_start)
        decision = self.learner.act(seen, carry, reset, greedy=deterministic)
        self._carry, self._num_envs = decision.carry, num_envs
        action = self._to_env(decision.action).numpy()
        if is_by_agent:
            return {name: action[0, self.spec.agents.index(str(name))] for name in names}
        return action[0] if leads[0] is None else action

    def _remembered(self, num_envs: int, episode_start: ArrayLike | None) -> tuple[Any, Tensor]:
        """Return the memory, and where it must be dropped."""
        starts = np.zeros(num_envs, bool)
        if episode_start is not None:
            given = np.asarray(episode_start)
            if given.dtype != bool or given.shape not in ((), (num_envs,)):
                raise ValueError(
                    f"episode_start must be true or false, for all or for each of {num_envs}, "
                    f"got {given.dtype} of shape {given.shape}"
                )
            starts |= given
        if self._carry is None:
            return self.learner.initial_carry(num_envs), torch.ones(num_envs, dtype=torch.bool)
        if self._carry and num_envs != self._num_envs:
            raise ValueError(
                f"the policy remembers {self._num_envs} environments, and was asked for {num_envs}; "
                "call reset() where other episodes begin"
            )
        return self._carry, torch.from_numpy(starts)

    def _complete(self, seen: Any, global_state: Any, num_envs: int) -> Any:
        """Add what is of no weight to an action: what only critics see, and a global state not acted by."""
        if self.spec.has_critic_part:
            own = seen if isinstance(self._seen, dict) else {OBSERVATION: seen}
            seen = {**own, CRITIC: example_observation(self.spec, num_envs)[CRITIC]}
        if not self.spec.state:
            return seen
        if global_state is None and self.learner.acts_by_state:
            raise ValueError(
                f"the actions of {type(self.learner).__name__} depend on the global state: give "
                "global_state=env.state()"
            )
        size = self.spec.state
        state = np.zeros((num_envs, size)) if global_state is None else np.asarray(global_state)
        if state.size != num_envs * size:
            raise ValueError(
                f"global_state must hold {size} numbers for each of {num_envs}, got {state.shape}"
            )
        return {**seen, STATE: torch.as_tensor(state.reshape(num_envs, size), dtype=torch.float32)}

    def _is_by_agent(self, obs: Mapping[Any, Any]) -> bool:
        """Tell whether the keys are agents, and not parts of an observation with an axis of agents."""
        names = {str(name) for name in obs}
        parts = set(self._seen) if isinstance(self._seen, dict) else {OBSERVATION}
        if names - set(self.spec.agents) and not parts <= names:
            raise ValueError(
                f"observation: expected some of the agents {', '.join(self.spec.agents)}, "
                f"got {', '.join(sorted(names))}"
            )
        return not parts <= names

    def _of_agents(self, obs: Mapping[Any, Any]) -> Any:
        """Arrange observations by agent as arrays with an axis of agents; those who left see zeros."""
        leaves = self._seen if isinstance(self._seen, dict) else {OBSERVATION: self._seen}
        if len(obs) < len(self.spec.agents) and ALIVE not in leaves:
            all_of_them, got = ", ".join(self.spec.agents), ", ".join(map(str, obs))
            raise ValueError(f"observation: expected all agents ({all_of_them}), got {got}")
        arrays = {}
        for key, leaf in leaves.items():
            fill = np.ones if key == ACTION_MASK else np.zeros
            arrays[key] = fill((*self._agents, *leaf.shape), str(input_dtype(leaf)).removeprefix("torch."))
        for name, own in obs.items():
            a = self.spec.agents.index(str(name))
            for key, value in _parts(name, own, leaves.keys() - {ALIVE}).items():
                room = arrays[key].shape[1:]
                is_shorter = value.ndim == len(room) == 1 and len(value) < room[0]
                if value.shape != room and not is_shorter:
                    raise ValueError(f"observation of agent {name}: expected shape {room}, got {value.shape}")
                arrays[key] = arrays[key].astype(np.result_type(arrays[key], value))  # checked by _tensors
                arrays[key][(a, *map(slice, value.shape))] = value  # filled up with zeros as in training
            if ALIVE in leaves:
                arrays[ALIVE][a] = 1
        return arrays if isinstance(self._seen, dict) else arrays[OBSERVATION]

    def _tensors(self, spec: Any, obs: Any, path: str, leads: list[int | None]) -> Any:
        """Turn arrays into tensors ``(N, ...)``, and note how many rows each had; None for no such axis."""
        if isinstance(spec, dict):
            if not isinstance(obs, Mapping) or spec.keys() - obs.keys():
                got = ", ".join(map(str, obs)) if isinstance(obs, Mapping) else type(obs).__name__
                raise ValueError(f"{path}: expected a dict with {', '.join(spec)}, got {got}")
            return {
                key: self._tensors(leaf, obs[key], f"{path}[{key!r}]", leads) for key, leaf in spec.items()
            }
        if isinstance(obs, Mapping):
            raise ValueError(f"{path}: expected an array, got a dict with {', '.join(map(str, obs))}")
        array, shape = np.asarray(obs), (*self._agents, *spec.shape)
        num_lead = array.ndim - len(shape)
        if num_lead not in (0, 1) or array.shape[num_lead:] != shape:
            raise ValueError(
                f"{path}: expected shape {shape}, or {('N', *shape)} for N of them, got {array.shape}"
            )
        leads.append(len(array) if num_lead else None)
        dtype = input_dtype(spec)
        if not dtype.is_floating_point:
            _check_integers(array, spec, dtype, path)
        tensor = torch.as_tensor(array.astype(str(dtype).removeprefix("torch.")))
        return tensor if num_lead else tensor[None]


def _parts(name: Any, own: Any, keys: set[str]) -> dict[str, np.ndarray]:
    """Return the arrays that one agent sees, by key.

    Raises:
        ValueError: One is missing.
    """
    parts = own if isinstance(own, Mapping) else {OBSERVATION: own}
    if keys - parts.keys():
        raise ValueError(
            f"observation of agent {name}: expected a dict with {', '.join(sorted(keys))}, "
            f"got {', '.join(map(str, parts))}"
        )
    return {key: np.asarray(parts[key]) for key in keys}


def _check_integers(array: np.ndarray, leaf: LeafSpec, dtype: torch.dtype, path: str) -> None:
    """Refuse what the dtype of the environment's space cannot hold, and choices that do not exist."""
    if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
        raise ValueError(
            f"{path}: expected whole numbers ({leaf.space_dtype or leaf.dtype}), got {array.dtype}"
        )
    low, high = np.array(torch.iinfo(dtype).min), np.array(torch.iinfo(dtype).max)
    if leaf.categories:
        low = np.array(leaf.start or [0] * len(leaf.categories)).reshape(leaf.shape)
        high = low + np.array(leaf.categories).reshape(leaf.shape) - 1
    if ((array < low) | (array > high)).any():
        raise ValueError(
            f"{path}: expected values from {low.min()} to {high.max()}, got {array.min()} to {array.max()}"
        )
