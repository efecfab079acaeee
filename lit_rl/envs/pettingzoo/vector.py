"""Any PettingZoo ``ParallelEnv`` as a ``VectorEnv`` with an agent axis: N copies, one after the other.

Axes: N environments, A agents, S state features.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from pettingzoo import ParallelEnv

from lit_rl.arguments import Copies, check_arguments
from lit_rl.envs.class_path import factory
from lit_rl.envs.faults import fault_of
from lit_rl.envs.gymnasium.spec import action_caster, observation_caster
from lit_rl.envs.packed import packed_or_none, unpack
from lit_rl.envs.pettingzoo.answers import AnswerCheck
from lit_rl.envs.pettingzoo.check import check_parallel
from lit_rl.envs.pettingzoo.spec import (
    check_mask_size,
    environment_name,
    read_spaces,
    read_state,
)
from lit_rl.types import (
    ACTION_MASK,
    ALIVE,
    CUT,
    OBSERVATION,
    STATE,
    ActionSpec,
    EnvSpec,
    ExactState,
    LeafSpec,
    NestedArray,
    Step,
)

EnvFn: TypeAlias = str | Mapping[str, Any] | Callable[..., Any]


class ParallelVectorEnv:
    """Steps N copies of an environment of several agents, one after the other.

    - Observations ``(N, A, ...)`` are zero for agents that left the episode early (or have not joined it).
      Where one was truncated in this very step, what it saw last stands there, and ``alive`` is -1.
      With a global state, action masks or agents that may leave they are a dict: ``observation``, ``state``
      ``(N, S)``, ``action_mask`` ``(N, A, choices)`` (ones for agents that left) and ``alive`` ``(N, A)``.
    - The global state is what ``env.state()`` returns, where it is implemented and somebody looks at it; one
      that is an image stays uint8.
    - Action masks come from Dict observations with the keys ``observation`` and ``action_mask``, or from
      ``info["action_mask"]``.
    - Actions and rewards of agents that left are ignored and 0.
    - An episode ends when all agents have ended: terminated if all that acted last terminated, else
      truncated. The next one begins in the same step; ``final_obs`` keeps what those agents saw last.

    Args:
        env_fn: A class, a function, or the ``class_path`` of one; it makes one ``pettingzoo.ParallelEnv``.
        num_envs: Number N of environments.
        env_kwargs: Keyword arguments of ``env_fn``.
        pad: Whether shorter observations are filled up with zeros, where agents have different lengths.
        team_reward: Whether all share one reward ``(N,)``, the mean over the agents that acted; else it is
            ``(N, A)``.
        may_leave: Whether agents may leave before the episode ends, or join late; adds ``alive`` to the
            observations. False promises that they never do, and it is an error when one does.
        check: Whether one throw-away copy is tried first (by ``check_parallel``).
        record: Keys of ``info`` to return in ``Step.metrics``: the mean over the agents that report it, NaN
            where none did.
        global_state: Whether the global state is observed. False never calls ``env.state()``, which takes
            time and memory, and fails in some environments.

    Raises:
        ValueError: ``num_envs`` is below 1, agents differ in their spaces, or the check found something.
        TypeError: ``env_fn`` makes something else.
    """

    def __init__(
        self,
        env_fn: EnvFn,
        num_envs: Copies,
        env_kwargs: Mapping[str, Any] | None = None,
        *,
        pad: bool = False,
        team_reward: bool = False,
        may_leave: bool = True,
        check: bool = True,
        record: Sequence[str] = (),
        global_state: bool = True,
    ) -> None:
        check_arguments(ParallelVectorEnv, locals())
        make = _make(env_fn, env_kwargs)
        if check:
            check_parallel(make, pad=pad, global_state=global_state)
        self.num_envs, self.team_reward, self.may_leave = num_envs, team_reward, may_leave
        self._has_state = global_state
        self._record, self._never_reported = tuple(record), set(record)
        self.envs: list[ParallelEnv] = []
        self._is_savable = True  # as far as it is known
        try:
            self.envs += (make() for _ in range(num_envs))
            self._read(pad)
        except BaseException:
            self.close()
            raise

    def _read(self, pad: bool) -> None:
        """Find out from the first copy what agents observe and do; state and masks show after a reset."""
        env = self.envs[0]
        name = environment_name(env)
        spaces = read_spaces(name, env, pad)
        _, infos = env.reset(seed=0)
        masks = [infos[agent][ACTION_MASK] for agent in env.agents if ACTION_MASK in infos[agent]]
        self._masked_by_info = bool(masks) and not spaces.is_masked
        self._has_mask = spaces.is_masked or self._masked_by_info
        if self._masked_by_info:
            check_mask_size(f"{name}: info[{ACTION_MASK!r}]", np.shape(masks[0]), spaces.action)
        self._leaf, self._index = spaces.observation, _AgentIndex(name, spaces.agents)
        self._to_obs = [observation_caster(space) for space in spaces.observations]
        self._to_action = action_caster(spaces.action_space)
        self._place = spaces.places()
        self._shapes = [space.shape for space in spaces.observations]
        self._limits = (
            np.array(self._leaf.categories).reshape(self._leaf.shape) if self._leaf.categories else None
        )
        observed = {agent: env.observation_space(agent) for agent in spaces.agents}
        self._answers, self._t = AnswerCheck(name, observed, spaces.action), 0
        state = read_state(env) if self._has_state else None
        self.spec = self._spec(name, spaces.action, np.zeros(0, np.float32) if state is None else state)

    def _spec(self, name: str, action: ActionSpec, state: np.ndarray) -> EnvSpec:
        leaves: dict[str, Any] = {OBSERVATION: self._leaf}
        if self._has_mask:
            choices = sum(action.categories)
            leaves[ACTION_MASK] = LeafSpec([choices], "int8", [2] * choices)
        if self.may_leave:
            leaves[ALIVE] = LeafSpec([])
        self._is_plain = len(leaves) == 1 and not state.size
        seen, agents = self._leaf if self._is_plain else leaves, list(map(str, self._index))
        return EnvSpec(name, seen, action, agents, state.size, state_dtype=str(state.dtype))

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``."""
        rows, self._t = self._blank(self.num_envs), 0
        for i in range(self.num_envs):
            self._begin(rows, i, seed + i)
        return self._as_obs(rows)

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, A, ...)``; ``Step`` says what comes back.

        Raises:
            ValueError: ``action`` has another shape, an agent leaves although ``may_leave`` is False, or a
                value to record is not a number.
        """
        shape = (self.num_envs, len(self._index), *self.spec.action.shape)
        if action.shape != shape:
            expected = f"action must have shape {shape} (num_envs and agents first)"
            raise ValueError(f"{self.spec.name}: {expected}, got {action.shape}")
        actions = self._to_action(action)
        rows, final = self._blank(self.num_envs), []
        reward = np.zeros(shape[:2], np.float32)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        metrics = {name: np.full(self.num_envs, np.nan, np.float32) for name in self._record}
        for i, env in enumerate(self.envs):
            acting = list(env.agents)
            answer = env.step({agent: actions[i, self._index[agent]] for agent in acting})
            try:
                seen, rewards, terminations, truncations, infos = answer
                reward[i] = self._reward(acting, rewards)
                self._report(metrics, i, infos)
                if env.agents:
                    self._write(rows, i, env, env.agents, seen, infos)
                    left = (agent for agent in acting if agent not in env.agents)
                    cut = [agent for agent in left if truncations[agent] and not terminations[agent]]
                    self._mark_cut(rows, i, cut, seen)
                    continue
                terminated[i] = all(terminations[agent] for agent in acting)
                truncated[i] = not terminated[i]
                final.append(self._blank(1))
                self._write(final[-1], 0, env, acting, seen, infos)
                if truncated[i]:
                    self._mark_terminated(final[-1], [agent for agent in acting if terminations[agent]])
            except (TypeError, ValueError, KeyError, AttributeError):
                self._look_for_fault(i, acting, answer)
                raise
            self._begin(rows, i)
        self._t += 1
        if final:
            self._check_reported()
        reward = reward[:, 0] if self.team_reward else reward
        final_obs = self._as_obs(_concatenate(final)) if final else None
        return Step(self._as_obs(rows), reward, terminated, truncated, final_obs, None, metrics)

    def _mark_terminated(self, rows: dict[str, np.ndarray], agents: Sequence[Any]) -> None:
        """Say in the last observation of an episode that is cut which agents have no future all the same."""
        if agents and not self.may_leave:
            raise ValueError(
                f"{self.spec.name}: {[*agents]} terminated as others were truncated; set may_leave=True, "
                "so that each has its own end"
            )
        for agent in agents:
            rows[ALIVE][0, self._index[agent]] = 0

    def _mark_cut(
        self, rows: dict[str, np.ndarray], row: int, agents: Sequence[Any], seen: Mapping[Any, Any]
    ) -> None:
        """Keep what agents saw last whose time was up while others play on."""
        is_inner = self._has_mask and not self._masked_by_info
        for agent in agents:
            a, obs = self._index[agent], seen[agent][OBSERVATION] if is_inner else seen[agent]
            rows[OBSERVATION][(row, a, *self._place[a])] = self._values(a, agent, obs)
            rows[ALIVE][row, a] = CUT

    def _reward(self, acting: Sequence[Any], rewards: Mapping[Any, float]) -> np.ndarray:
        """Return the rewards of one environment, ``(A,)``."""
        row = np.zeros(len(self._index), np.float32)
        for agent in acting:
            row[self._index[agent]] = rewards[agent]
        return np.full_like(row, row.sum() / len(acting)) if self.team_reward else row

    def _begin(self, rows: dict[str, np.ndarray], i: int, seed: int | None = None) -> None:
        """Start an episode in environment i; without a seed its generator goes on."""
        env = self.envs[i]
        answer = env.reset(seed=seed)
        if not env.agents:
            raise ValueError(f"{self.spec.name}: reset leaves agents empty; an episode needs at least one")
        try:
            seen, infos = answer
            self._write(rows, i, env, env.agents, seen, infos)
        except (TypeError, ValueError, KeyError, AttributeError):
            method = f"the reset after step {self._t}" if seed is None else "the reset"
            with fault_of(self.spec.name, i):
                self._answers.reset(method, answer)
                self._answers.seen(method, env.agents, *answer, None)
            raise

    def _look_for_fault(self, i: int, acting: Sequence[Any], answer: Any) -> None:
        """Say what of the answer of environment i to a step cannot be stored; nothing where all can."""
        method = f"step {self._t}"
        with fault_of(self.spec.name, i):
            self._answers.step(method, acting, answer, is_late=True)
            observations, *_, infos = answer
            self._answers.seen(method, self.envs[i].agents or acting, observations, infos, None)

    def _blank(self, num_rows: int) -> dict[str, np.ndarray]:
        """Return the observations of agents that all left."""
        lead = (num_rows, len(self._index))
        rows = {OBSERVATION: np.zeros((*lead, *self._leaf.shape), self._leaf.dtype)}
        if self.spec.state:
            rows[STATE] = np.zeros((num_rows, self.spec.state), self.spec.state_dtype)
        if self._has_mask:
            rows[ACTION_MASK] = np.ones((*lead, sum(self.spec.action.categories)), np.int8)
        if self.may_leave:
            rows[ALIVE] = np.zeros(lead, np.float32)
        return rows

    def _write(
        self,
        rows: dict[str, np.ndarray],
        row: int,
        env: ParallelEnv,
        agents: Sequence[Any],
        seen: Mapping[Any, Any],
        infos: Mapping[Any, Any],
    ) -> None:
        """Copy what ``agents`` see into ``rows``."""
        if not self.may_leave and len(agents) < len(self._index):
            gone = [agent for agent in self._index if agent not in agents]
            raise ValueError(f"{self.spec.name}: {gone} left the episode early; set may_leave=True")
        for agent in agents:
            a, obs = self._index[agent], seen[agent]
            mask = infos[agent].get(ACTION_MASK) if self._masked_by_info else None
            if self._has_mask and not self._masked_by_info:
                obs, mask = obs[OBSERVATION], obs[ACTION_MASK]
            rows[OBSERVATION][(row, a, *self._place[a])] = self._values(a, agent, obs)
            if mask is not None:
                check_mask_size(f"{self.spec.name}: mask of agent {agent}", np.shape(mask), self.spec.action)
                rows[ACTION_MASK][row, a] = mask
            elif self._has_mask and env.agents:  # none is needed where no action follows
                raise ValueError(
                    f"{self.spec.name}: info of agent {agent} has no {ACTION_MASK!r} in this step"
                )
            if self.may_leave:
                rows[ALIVE][row, a] = 1
        if self.spec.state:
            state = np.ravel(env.state())
            if state.shape != rows[STATE][row].shape:
                was = rows[STATE][row].size
                raise ValueError(f"{self.spec.name}: state() has {state.size} features, before it had {was}")
            rows[STATE][row] = state

    def _values(self, a: int, agent: Any, obs: Any) -> np.ndarray:
        """Return what agent number ``a`` sees, or refuse it."""
        values = self._to_obs[a](obs)
        if values.shape != self._shapes[a] or (self._limits is not None and not self._are_known(values)):
            raise ValueError(f"{self.spec.name}: agent {agent} observes {values!r:.80}")
        return values

    def _are_known(self, values: np.ndarray) -> bool:
        """Whether categories are in their range."""
        return bool(((values >= 0) & (values < self._limits)).all())

    def _as_obs(self, rows: dict[str, np.ndarray]) -> NestedArray:
        return rows[OBSERVATION] if self._is_plain else rows

    def _report(self, metrics: dict[str, np.ndarray], i: int, infos: Mapping[Any, Any]) -> None:
        for name, values in metrics.items():
            reported = [info[name] for info in infos.values() if isinstance(info, dict) and name in info]
            if not reported:
                continue
            try:
                values[i] = sum(map(float, reported)) / len(reported)
            except (TypeError, ValueError) as error:
                got = f"{reported[0]!r:.80}"
                raise ValueError(f"record={name!r} must be one number per agent, got {got}") from error
            self._never_reported.discard(name)

    def _check_reported(self) -> None:
        if self._never_reported:
            warnings.warn(
                f"{self.spec.name}: record={sorted(self._never_reported)} was not in the info of any agent "
                "during a whole episode, and counts as not reported until it is",
                stacklevel=3,
            )
            self._never_reported.clear()

    @property
    def unknown_class(self) -> str | None:
        """Name of the class when its state cannot be saved; None when ``get_state`` works."""
        is_known = isinstance(self.envs[0], ExactState) and self._is_savable
        return None if is_known else self._class_name()

    def _class_name(self) -> str:
        kind = type(self.envs[0])
        return f"{kind.__module__}.{kind.__qualname__}"

    def get_state(self) -> dict[str, Any] | None:
        """Return the state of all environments; None unless their class offers it (``ExactState``)."""
        if self.unknown_class:
            return None
        states = [packed_or_none(env.get_state(), self._class_name()) for env in self._savable()]
        self._is_savable = all(state is not None for state in states)
        return {"envs": states} if self._is_savable else None

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned, bit for bit.

        Raises:
            ValueError: The state is of another number of environments.
        """
        if len(state["envs"]) != self.num_envs:
            raise ValueError(
                f"the state is of num_envs={len(state['envs'])}, there are num_envs={self.num_envs}"
            )
        for env, saved in zip(self._savable(), state["envs"], strict=True):
            env.set_state(unpack(saved))

    def _savable(self) -> list[Any]:
        return list(self.envs)

    def frame(self) -> np.ndarray:
        """RGB array ``(height, width, 3)`` of environment 0.

        Raises:
            ValueError: The environments were made without ``render_mode="rgb_array"``.
        """
        if getattr(self.envs[0], "render_mode", None) != "rgb_array":
            raise ValueError(f"{self.spec.name}: frame() needs environments made with render=True")
        return np.asarray(self.envs[0].render())

    def close(self) -> None:
        """Close the environments. May be called twice."""
        while self.envs:
            self.envs.pop().close()


class _AgentIndex(dict[Any, int]):
    """Knows the position of each agent on the agent axis."""

    def __init__(self, name: str, agents: Sequence[Any]) -> None:
        super().__init__({agent: a for a, agent in enumerate(agents)})
        self._name = name

    def __missing__(self, agent: Any) -> int:
        raise ValueError(f"{self._name}: agent {agent} is not among possible_agents {list(self)}")


def _make(env_fn: EnvFn, env_kwargs: Mapping[str, Any] | None) -> Callable[[], ParallelEnv]:
    """Return a function that makes one environment."""
    made: Callable[..., Any] = factory(
        {"class_path": env_fn} if isinstance(env_fn, str) else env_fn, "env_fn"
    )

    def make() -> ParallelEnv:
        env = made(**(env_kwargs or {}))
        if not isinstance(env, ParallelEnv):
            got = f"{type(env).__module__}.{type(env).__name__}"
            raise TypeError(f"env_fn must make a pettingzoo.ParallelEnv, got {got}")
        return env

    return make


def _concatenate(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
