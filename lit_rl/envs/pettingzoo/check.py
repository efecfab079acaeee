"""Try one copy of a PettingZoo environment before training and say in plain words what is wrong with it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from pettingzoo import ParallelEnv

from lit_rl.envs.gymnasium.observation import describe
from lit_rl.envs.pettingzoo.answers import AnswerCheck
from lit_rl.envs.pettingzoo.spec import (
    AgentSpaces,
    environment_name,
    read_spaces,
    read_state,
)
from lit_rl.envs.trial.actions import per_entry, random_action
from lit_rl.envs.trial.reuse import ReuseWatch
from lit_rl.types import ACTION_MASK


def check_parallel(
    make: Callable[[], ParallelEnv],
    *,
    name: str | None = None,
    pad: bool = False,
    num_steps: int = 32,
    seed: int = 0,
    global_state: bool = True,
) -> None:
    """Reset and step one throw-away copy and check that it keeps to the agents, spaces and state it declares.

    Args:
        make: Makes the copy; it is closed afterwards.
        name: Name for messages; by default what the environment calls itself.
        pad: Whether agents may have observations of different lengths.
        num_steps: Number of random (allowed) actions of all agents to try.
        seed: Seed of the reset and of the actions.
        global_state: Whether the global state is tried, too.

    Raises:
        ValueError: The environment breaks PettingZoo's contract, or a space is not supported. One line.
    """
    hints: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # their warnings say the same less clearly
        env = make()
        if not isinstance(env, ParallelEnv):
            got = f"{type(env).__module__}.{type(env).__name__}"
            raise ValueError(f"{name or 'the environment'} is a {got}, expected a pettingzoo.ParallelEnv")
        name = name or environment_name(env)
        try:
            _Trial(name, env, read_spaces(name, env, pad), hints, global_state).play(num_steps, seed)
        finally:
            env.close()
    if hints:  # one is enough, because the agents mostly do the same
        warnings.warn(f"{name}: {hints[0]}", stacklevel=2)


class _Trial:
    """Tries one environment, and keeps what was seen of it last."""

    def __init__(
        self, name: str, env: ParallelEnv, agents: AgentSpaces, hints: list[str], global_state: bool
    ) -> None:
        self.name, self.env, self.spaces, self.hints = name, env, agents, hints
        self.global_state, self.state_shape = global_state, None
        self.masked_by_info = False
        self.masks: dict[Any, np.ndarray] = {}
        observed = {agent: env.observation_space(agent) for agent in agents.agents}
        self.answers = AnswerCheck(name, observed, agents.action)
        self.watch = ReuseWatch("observations", hints)

    def play(self, num_steps: int, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        for i, agent in enumerate(self.spaces.agents):
            self.env.action_space(agent).seed(seed + i)
        self._reset(seed)
        for step in range(num_steps):
            self._step()
            if not self.env.agents or step == num_steps - 1:  # so that it is reset after a step
                self._reset(None)

    def _refuse(self, what: str) -> ValueError:
        return ValueError(f"{self.name}: {what}")

    def _reset(self, seed: int | None) -> None:
        try:
            answer = self.env.reset(seed=seed)
        except TypeError as error:
            if "unexpected keyword argument" not in str(error):
                raise
            raise self._refuse(f"reset must accept reset(seed=None, options=None); {error}") from error
        self.answers.reset("reset", answer)
        observations, infos = answer
        if not self.env.agents:
            raise self._refuse("reset leaves agents empty; an episode needs at least one")
        if seed is not None:
            self.masked_by_info = any(ACTION_MASK in (infos.get(a) or {}) for a in self.env.agents)
            state = self._state("reset")
            self.state_shape = None if state is None else state.shape
        self._look("reset", self.env.agents, observations, infos)

    def _step(self) -> None:
        acting = list(self.env.agents)
        answer = self.env.step({agent: self._sample(agent) for agent in acting})
        self.answers.step("step", acting, answer, is_late=False)
        observations, _, terminations, truncations, infos = answer
        for agent in acting:
            has_ended = terminations[agent] or truncations[agent]
            if has_ended and agent in self.env.agents:
                raise self._refuse(f"agent {agent} has ended but is still in agents; remove it there")
            if not has_ended and agent not in self.env.agents:
                raise self._refuse(
                    f"agent {agent} is no longer in agents, but neither terminated nor truncated"
                )
        self._look("step", self.env.agents or acting, observations, infos)

    def _look(
        self, method: str, agents: list[Any], observations: dict[Any, Any], infos: dict[Any, Any]
    ) -> None:
        """Check what ``agents`` got from ``method``, and keep their masks."""
        self.masks = {}
        self.watch.see(method, observations)
        for agent in agents:
            self.answers.seen(method, [agent], observations, infos, self.hints)
            info = infos[agent]
            if self.spaces.is_masked:
                mask = observations[agent][ACTION_MASK]
                self._keep_mask(f"observation of agent {agent}[{ACTION_MASK!r}]", agent, mask)
            elif self.masked_by_info and self.env.agents:
                if ACTION_MASK not in info:
                    raise self._refuse(
                        f"info of agent {agent} has no {ACTION_MASK!r} in {method}, as others had"
                    )
                self._keep_mask(f"info of agent {agent}[{ACTION_MASK!r}]", agent, info[ACTION_MASK])
        self._check_state(method)

    def _keep_mask(self, what: str, agent: Any, mask: Any) -> None:
        kept = np.asarray(mask, np.int8)
        parts = per_entry(kept, self.spaces.action.categories)
        if self.env.agents and not all(part.any() for part in parts):
            raise self._refuse(f"{what} allows no action at all")
        self.masks[agent] = kept

    def _sample(self, agent: Any) -> Any:
        """Draw a random action that is allowed."""
        space, mask = self.env.action_space(agent), self.masks.get(agent)
        return random_action(space, self.spaces.action, mask, self.rng)

    def _state(self, method: str) -> np.ndarray | None:
        if not self.global_state:
            return None
        try:
            return read_state(self.env)
        except (TypeError, ValueError) as error:
            got = describe(self.env.state())
            raise self._refuse(f"state() after {method} is {got}, expected an array of numbers") from error

    def _check_state(self, method: str) -> None:
        state = self._state(method)
        if state is None:
            return
        if not np.isfinite(state).all():
            raise self._refuse(f"state() after {method} has values that are NaN or infinite")
        if state.shape != self.state_shape:
            raise self._refuse(
                f"state() after {method} has {state.size} features, after reset it had "
                f"{self.state_shape[0] if self.state_shape else 0}"
            )
        declared = getattr(self.env, "state_space", None)
        shape = np.shape(self.env.state())
        if isinstance(declared, spaces.Space) and declared.shape is not None and declared.shape != shape:
            raise self._refuse(f"state() after {method} has shape {shape}, state_space has {declared.shape}")
