"""What the parts of lit_rl say to each other: experience, and the protocols policy, environment, collector.

Legend of axes, used in every file: T time, N environments, A agents, B batch, K number of finished episodes,
O observation features, U action dimensions, S features of the global state.

An *observation* is a tensor or a (nested) dict of tensors. Without agents it is ``(N, ...)``; with agents
``(N, A, ...)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias, TypedDict, runtime_checkable

import numpy as np

if TYPE_CHECKING:  # processes that step environments do without the second and the 180 MB of torch
    from torch import Tensor

Nested: TypeAlias = Any
"""A tensor, or a dict of such: recursive aliases make type checkers refuse every honest use."""
NestedArray: TypeAlias = Any
"""The same in numpy, as environments speak."""

ACTION_MASK = "action_mask"
"""Key of a Dict observation that says which discrete actions are allowed (PettingZoo's convention)."""

OBSERVATION, STATE, ALIVE = "observation", "state", "alive"
"""Keys of an observation of several agents that is a dict: what each agent sees ``(N, A, ...)``, the global
state ``(N, S)``, and which agents act ``(N, A)`` (1, or 0 for one that left the episode early)."""

IS_SUCCESS = "is_success"
"""Key of ``info`` by which an environment reports 1 at the last step of an episode that reached its goal."""

TEAM_SKILL, AGENT_SKILLS, SKILL_START = "team_skill", "agent_skills", "skill_start"
"""Keys of ``extras`` by which a policy with skills says which skill each step belongs to: ``(N,)`` int64,
``(N, A)`` int64, and ``(N,)`` bool, True where the skills were assigned at this step."""


@dataclass(frozen=True)
class LeafSpec:
    """One array of an observation.

    Args:
        shape: Shape without the environment and agent axes.
        dtype: Name of the dtype the environment delivers; policies receive float32 for boxes, int64
            otherwise.
        categories: Empty for real values; for (multi-)discrete values the number of categories per entry.
    """

    shape: list[int]
    dtype: str = "float32"
    categories: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class ActionSpec:
    """What an agent may do.

    Args:
        kind: ``discrete`` (one integer), ``multi_discrete`` (a vector of integers) or ``box`` (a vector of
            reals).
        shape: Shape of one action without environment and agent axes; ``[]`` for ``discrete``.
        categories: Number of choices per entry of a (multi-)discrete action.
        low: Lower bounds of a box, flat; ``-inf`` where unbounded.
        high: Upper bounds of a box, flat.
    """

    kind: Literal["discrete", "multi_discrete", "box"]
    shape: list[int] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Number of reals of a box action, or of integers of a discrete one."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class EnvSpec:
    """What a policy must know of an environment to build its networks; plain types, for checkpoints.

    Args:
        name: Id or class of the environment, used in messages.
        observation: A ``LeafSpec``, or a nested dict of them for Dict observations.
        action: The action of one agent.
        agents: Names of the agents in the order of the agent axis; empty means that there is no agent axis.
        state: Number of features of the global state of a multi-agent environment; 0 when it has none.
    """

    name: str
    observation: LeafSpec | dict[str, Any]
    action: ActionSpec
    agents: list[str] = field(default_factory=list)
    state: int = 0

    @property
    def has_action_mask(self) -> bool:
        """Whether observations carry the key ``action_mask``."""
        return isinstance(self.observation, dict) and ACTION_MASK in self.observation

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, safe for ``torch.load(weights_only=True)``."""
        return asdict(self)

    def check_same(self, other: EnvSpec | None) -> None:
        """Refuse an environment that weights trained on this one do not fit; None fits.

        Raises:
            ValueError: Observation, action, agents or state differ.
        """
        for what in ("observation", "action", "agents", "state"):
            if other is not None and getattr(self, what) != getattr(other, what):
                raise ValueError(
                    f"checkpoint was trained on {self.name} with {what} {getattr(self, what)}, the data has "
                    f"{other.name} with {what} {getattr(other, what)}; give the environment of the checkpoint"
                )

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> EnvSpec:
        """Inverse of :meth:`to_dict`."""
        return EnvSpec(
            name=plain["name"],
            observation=_leaf_from_dict(plain["observation"]),
            action=ActionSpec(**plain["action"]),
            agents=list(plain["agents"]),
            state=plain["state"],
        )


def _leaf_from_dict(plain: Mapping[str, Any]) -> LeafSpec | dict[str, Any]:
    if isinstance(plain.get("shape"), list):
        return LeafSpec(**plain)
    return {key: _leaf_from_dict(value) for key, value in plain.items()}


class Step(NamedTuple):
    """What one call of ``VectorEnv.step`` returns, as numpy arrays.

    Attributes:
        obs: ``(N, ...)`` what the policy acts on next.
        reward: ``(N,)``, or ``(N, A)`` when agents are rewarded separately; float32.
        terminated: ``(N,)`` bool, the episode ended by the rules of the task: no value after it.
        truncated: ``(N,)`` bool, the episode was cut (time limit): its last observation has a value.
        final_obs: ``(K, ...)`` true last observations of the K environments where ``terminated | truncated``,
            in the order of the environment axis; None when no episode ended.
        valid: ``(N,)`` bool, False where this call only reset the environment (next-step autoreset) and no
            transition took place; None when every row is a transition.
        metrics: Named values the environment reports, each ``(N,)`` float32; only the names asked for.
    """

    obs: NestedArray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    final_obs: NestedArray | None
    valid: np.ndarray | None
    metrics: dict[str, np.ndarray]


@runtime_checkable
class VectorEnv(Protocol):
    """N environments stepped together.

    Episodes restart by themselves; ``final_obs`` keeps what was seen last.
    """

    num_envs: int
    spec: EnvSpec

    def reset(self, seed: int) -> NestedArray:
        """Start new episodes; environment i is seeded with ``seed + i``. Returns obs ``(N, ...)``."""
        ...

    def step(self, action: np.ndarray) -> Step:
        """Apply ``action`` ``(N, ...)`` (``(N, A, ...)`` with agents).

        Boxes are clipped to their bounds here.
        """
        ...

    def get_state(self) -> dict[str, Any] | None:
        """Everything needed to continue exactly, as tensors and plain types; None when that is not known."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from a state that :meth:`get_state` returned."""
        ...

    def close(self) -> None:
        """Release processes, windows and shared memory. May be called twice."""
        ...


@runtime_checkable
class HasSnapshot(Protocol):
    """A ``VectorEnv`` that can tell what one of its environments looks like, for replays."""

    def snapshot(self, env: int) -> dict[str, Any]:
        """Environment ``env`` at this moment as plain types for JSON; its ``kind`` says how to draw it."""
        ...


class Decision(NamedTuple):
    """What a policy answers for N environments.

    Attributes:
        action: ``(N, ...)`` or ``(N, A, ...)``, in the units of the environment.
        carry: What the policy wants back at the next step (hidden states, skills and their clocks), each leaf
            ``(N, ...)``.
        extras: What its learner wants recorded of this step, each ``(N, ...)``.
    """

    action: Tensor
    carry: Nested
    extras: dict[str, Tensor]


@runtime_checkable
class Policy(Protocol):
    """Anything that acts. Learners are policies; so are scripts and random baselines."""

    def initial_carry(self, num_envs: int) -> Nested:
        """The carry before the first step, each leaf ``(N, ...)``; ``{}`` for policies without memory."""
        ...

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Decide for N environments; ``reset`` ``(N,)`` bool: ``obs`` is the first of an episode."""
        ...


class Episodes(TypedDict):
    """Episodes that ended within one batch, in the order of their end. Tensors of shape ``(K,)``.

    They may have begun in an earlier batch.
    """

    episode_return: Tensor
    """Undiscounted sum of rewards (mean over agents when they are rewarded separately), float64."""
    episode_length: Tensor
    """Number of transitions, int64."""
    env_index: Tensor
    """Which environment, int64."""
    end_step: Tensor
    """Env steps of this rank from the start of the batch to the episode's end, int64."""
    action_norm: Tensor
    """Mean over the episode (and the agents) of the Euclidean norm of the action, float64; NaN unless box."""
    values: dict[str, Tensor]
    """What the environment reported, float64: mean over the steps that report it; NaN where none did."""
    last_values: dict[str, Tensor]
    """The same at the last step of the episode."""


class Rollout(TypedDict):
    """T steps of N environments, collected with one version of the policy.

    One Lightning batch of on-policy learning.
    """

    obs: Nested
    """``(T+1, N, ...)``: entry t is what the policy saw at step t; entry T is what it will see next."""
    reset: Tensor
    """``(T+1, N)`` bool: entry t of ``obs`` is the first of an episode."""
    action: Tensor
    """``(T, N, ...)``."""
    reward: Tensor
    """``(T, N)`` or ``(T, N, A)`` float32."""
    terminated: Tensor
    """``(T, N)`` bool."""
    truncated: Tensor
    """``(T, N)`` bool."""
    valid: Tensor | None
    """``(T, N)`` bool: False where the environment only reset itself (never train on it). None: all valid."""
    final_index: Tensor
    """``(K,)`` int64: ``t * N + n`` of each episode end, ascending."""
    final_obs: Nested
    """``(K, ...)``: the true last observation of those episodes (never the one after the reset)."""
    extras: dict[str, Tensor]
    """What the policy recorded, each ``(T, N, ...)``."""
    carry: Nested
    """``(N, ...)``: the policy's carry before step 0."""
    metrics: dict[str, Tensor]
    """What the environment reported, each ``(T, N)`` float32."""
    episodes: Episodes
    policy_version: int
    """The learner's number of trained batches when this was collected."""
    collect_s: float
    """Wall seconds of the collection."""
    env_s: float
    """Seconds of these inside ``VectorEnv.step``."""


class ReplayBatch(TypedDict):
    """M minibatches of B transitions, sampled after the matching number of env steps.

    One batch of off-policy learning.
    """

    obs: Nested
    """``(M, B, ...)``."""
    action: Tensor
    """``(M, B, ...)`` in the units of the environment."""
    reward: Tensor
    """``(M, B)``: discounted sum over the n steps of the transition."""
    next_obs: Nested
    """``(M, B, ...)``: the observation n steps later (the last one of the episode if it ended before)."""
    discount: Tensor
    """``(M, B)``: factor of the value of ``next_obs``: gamma^steps, 0 where the episode terminated."""
    new_steps: int
    """Env steps of this rank taken since the last batch."""
    random_steps: int
    """The first so many of these were played with uniformly random actions (warm-up)."""
    replay_size: int
    """Transitions in the ring of this rank."""
    metrics: dict[str, Tensor]
    """What the environment reported in the newest steps, each ``(T, N)`` float32."""
    episodes: Episodes
    policy_version: int
    collect_s: float
    env_s: float
    sample_s: float
    """Wall seconds of sampling the minibatches."""


class EvalEpisodes(TypedDict):
    """Episodes played by the greedy policy on the evaluation environments.

    One batch of the validation loop.
    """

    episodes: Episodes
    seconds: float


@runtime_checkable
class Collector(Protocol):
    """Plays a policy in a ``VectorEnv``.

    All places of collection (in process, workers, remote) look like this.
    """

    def collect(self, policy: Policy, num_steps: int, policy_version: int) -> Rollout:
        """Play ``num_steps`` steps in every environment, continuing where the last call stopped."""
        ...

    def get_state(self) -> dict[str, Any]:
        """State of environments, carries and running episodes, as tensors and plain types."""
        ...

    def set_state(self, state: dict[str, Any]) -> bool:
        """Continue from a saved state.

        Returns False when the environments could not be restored and were reset.
        """
        ...

    def close(self) -> None:
        """Release everything. May be called twice."""
        ...


@runtime_checkable
class Snapshot(Protocol):
    """Anything whose state can be saved exactly, as tensors and plain types."""

    def get_state(self) -> dict[str, Any]:
        """State as a dict that ``torch.load(weights_only=True)`` accepts."""
        ...

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`get_state` returned."""
        ...
