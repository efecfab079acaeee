"""What a policy must know of an environment, and the keys of what environments and policies report.

Axes: N environments, A agents, S state features, J tokens, W token features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np

ACTION_MASK = "action_mask"
"""Key of a Dict observation that says which discrete actions are allowed (PettingZoo's convention)."""

TOKENS, JOINT_MASK, LINKS = "joint_tokens", "joint_mask", "joint_links"
"""Keys of a Dict observation of a thing with parts, such as a robot with joints: features of each part
``(J, W)``; which parts exist ``(J,)``, 1 or 0, where arrays are padded to J parts; and which part is whose
parent ``(J, J)``, 1 at ``[parent, child]``. Without ``joint_links`` each part is the parent of the next one.
A box action of J entries moves the parts that exist; the other entries count in no probability. What stands
at further keys is about the whole."""

OBSERVATION, STATE, ALIVE = "observation", "state", "alive"
"""Keys of an observation of several agents that is a dict: what each agent sees ``(N, A, ...)``, the global
state ``(N, S)``, and which agents act ``(N, A)``: 1, or 0 for one that left the episode early. ``CUT`` stands
right after its last step where its time was up, but its task was not: what it saw last, which has a value,
then stands where its next observation would."""

CUT = -1.0
"""Entry of ``alive`` for an agent that was truncated in the step before, while others play on."""

CRITIC = "critic"
"""Key of a Dict observation of a single agent for what only critics see while they learn, such as what only a
simulator knows. No actor sees it."""

IS_SUCCESS = "is_success"
"""Key of ``info`` by which an environment reports 1 at the last step of an episode that reached its goal."""

TEAM_SKILL, AGENT_SKILLS, SKILL_START = "team_skill", "agent_skills", "skill_start"
"""Keys of ``extras`` by which a policy with skills says which skills each step follows: the skill of the team
``(N,)`` int64, those of its agents ``(N, A)`` int64, and ``(N,)`` bool, True where they were assigned at this
step."""

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class LeafSpec:
    """The kind of array that an observation is, or that stands at one key of a Dict observation.

    Args:
        shape: Shape without the environment and agent axes.
        dtype: Name of the dtype in which the environment delivers the array. Policies receive real values as
            float32, and integers as int64.
        categories: Number of values that each entry can take, where entries are integers from 0 on; an empty
            list where they are real numbers.
        start: Smallest value of each entry in the environment's own numbers; an empty list means 0. What
            reaches policies counts from 0. Exported policies take the environment's numbers.
        space_dtype: Name of the dtype that the space of the environment declares; an empty one means
            ``dtype``. Exported policies take integers in it.
    """

    shape: list[int]
    dtype: str = "float32"
    categories: list[int] = field(default_factory=list)
    start: list[int] = field(default_factory=list, compare=False)  # weights fit whatever these two are
    space_dtype: str = field(default="", compare=False)


@dataclass(frozen=True)
class ActionSpec:
    """The actions that an agent may take.

    Args:
        kind: ``discrete`` (one integer), ``multi_discrete`` (a vector of integers) or ``box`` (a vector of
            reals).
        shape: Shape of one action without environment and agent axes; ``[]`` for ``discrete``.
        categories: Number of choices per entry of a (multi-)discrete action.
        low: Lower bounds of a box, flat; ``-inf`` where unbounded.
        high: Upper bounds of a box, flat.
        start: Smallest choice of each entry in the environment's own numbers; an empty list means 0. Policies
            count from 0.
        dtype: Name of the dtype in which the environment takes actions; an empty one leaves what policies
            give.
    """

    kind: Literal["discrete", "multi_discrete", "box"]
    shape: list[int] = field(default_factory=list)
    categories: list[int] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    start: list[int] = field(default_factory=list, compare=False)  # weights fit whatever these two are
    dtype: str = field(default="", compare=False)

    @property
    def size(self) -> int:
        """Number of reals of a box action, or of integers of a discrete one."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_flat(self) -> bool:
        """Whether an action is one choice, or a vector: others are turned into a vector and back."""
        return self.kind == "discrete" or len(self.shape) == 1

    def flattened(self, action: Any) -> Any:
        """Turn actions ``(..., *shape)``, arrays or tensors, into vectors ``(..., size)``; choices stay."""
        return action if self.is_flat else action.reshape(*action.shape[: action.ndim - len(self.shape)], -1)

    def shaped(self, action: Any) -> Any:
        """Turn vectors ``(..., size)`` back into actions ``(..., *shape)``."""
        return action if self.is_flat else action.reshape(*action.shape[:-1], *self.shape)


@dataclass(frozen=True)
class Mirror:
    """How the last axis of an array looks in a mirror: places, and signs there.

    Args:
        source: Place from which each number of the mirror image comes.
        sign: Its sign there, 1 or -1.
    """

    source: list[int]
    sign: list[float]


@dataclass(frozen=True)
class EnvSpec:
    """What a policy must know of an environment to build its networks; plain types, for checkpoints.

    Args:
        name: Id or class of the environment, used in messages.
        observation: A ``LeafSpec``, or a nested dict of them for Dict observations.
        action: The action of one agent.
        agents: Names of the agents in the order of the agent axis; empty means that there is no agent axis.
        state: Number of features of the global state of a multi-agent environment; 0 when it has none.
        mirror: Mirror image of the environment: a ``Mirror`` of the action at the key ``action``, and at
            ``observation`` one for each leaf. None where it has no such symmetry, or does not say so.
        state_dtype: Name of the dtype of the global state: ``float32``, or ``uint8`` for images.
    """

    name: str
    observation: LeafSpec | dict[str, Any]
    action: ActionSpec
    agents: list[str] = field(default_factory=list)
    state: int = 0
    mirror: dict[str, Any] | None = field(default=None, compare=False)  # weights fit whatever it is
    state_dtype: str = field(default="float32", compare=False)  # learners see float32

    @property
    def has_action_mask(self) -> bool:
        """Whether observations carry the key ``action_mask``."""
        return isinstance(self.observation, dict) and ACTION_MASK in self.observation

    @property
    def has_critic_part(self) -> bool:
        """Whether observations carry the key ``critic``, with what only critics may see."""
        return isinstance(self.observation, dict) and CRITIC in self.observation

    @property
    def has_joints(self) -> bool:
        """Whether observations say, at the key ``joint_mask``, which entries of a box action exist.

        Raises:
            ValueError: The mask has not one entry for each entry of the action.
        """
        seen = self.observation
        if self.action.kind != "box" or not isinstance(seen, dict) or JOINT_MASK not in seen:
            return False
        if seen[JOINT_MASK].shape != [self.action.size]:
            raise ValueError(
                f"{self.name}: observation[{JOINT_MASK!r}] must have one entry per entry of the action, here "
                f"shape [{self.action.size}]; its shape is {seen[JOINT_MASK].shape}"
            )
        return True

    def of_actor(self) -> EnvSpec:
        """Return this spec without the part of observations that only critics may see."""
        return replace(self, observation=without_critic(self.observation))

    def within(self, low: Sequence[float], high: Sequence[float]) -> EnvSpec:
        """Return this spec with other bounds of its box action, one number for each entry."""
        return replace(self, action=replace(self.action, low=list(low), high=list(high)))

    def to_dict(self) -> dict[str, Any]:
        """Return a plain nested dict, which ``torch.load(weights_only=True)`` accepts."""
        return asdict(self)

    def check_same(self, other: EnvSpec | None, with_state: bool = True) -> None:
        """Refuse an environment that weights trained on this one do not fit; None is never refused.

        Args:
            other: Spec of the environment.
            with_state: Whether the weights are of a learner that looks at the global state.

        Raises:
            ValueError: Observation, action, agents or state differ.
        """
        for what in ("observation", "action", "agents", *(["state"] if with_state else [])):
            if other is not None and getattr(self, what) != getattr(other, what):
                raise ValueError(
                    f"checkpoint was trained on {self.name} with {what} {getattr(self, what)}, the data has "
                    f"{other.name} with {what} {getattr(other, what)}; give the environment of the checkpoint"
                )

    def check_continuous(self, needed_by: str, remedy: str) -> None:
        """Refuse actions that are not continuous.

        Raises:
            ValueError: Actions are not a box; the message says who needs it, and the remedy.
        """
        if self.action.kind != "box":
            kind = self.action.kind
            raise ValueError(
                f"{needed_by} needs continuous actions (Box), {self.name} has {kind} ones; {remedy}"
            )

    def check_bounds(self, needed_by: str, *, apart: bool = True) -> None:
        """Refuse a box whose bounds float32 cannot scale, such as infinite ones.

        Args:
            needed_by: Name of what scales actions, for the message.
            apart: Whether the two bounds of an entry must differ.

        Raises:
            ValueError: The bounds of an entry are infinite, too far away for float32, or equal. The message
                names the first such entry.
        """
        wrapper = "with a wrapper (gymnasium.wrappers.TransformAction takes an action_space)"
        for i, (low, high) in enumerate(zip(self.action.low, self.action.high, strict=True)):
            if not (math.isfinite(low) and math.isfinite(high)):
                fault, remedy = "needs finite action bounds", f"declare finite ones {wrapper}"
            elif max(abs(low), abs(high), high - low) > _LARGEST:
                fault = f"computes actions in float32, which ends at {_LARGEST:.2g}"
                remedy = f"declare narrower bounds {wrapper}"
            elif apart and np.float32(low) == np.float32(high):
                fault = "needs action bounds that differ in float32"
                remedy = f"there is nothing to choose, so leave the entry out {wrapper}"
            else:
                continue
            at = ", ".join(str(int(index)) for index in np.unravel_index(i, tuple(self.action.shape)))
            entry = f"entry [{at}] of the action" if at else "the action"
            raise ValueError(
                f"{needed_by} {fault}; {entry} of {self.name} goes from {low} to {high}: {remedy}"
            )

    @staticmethod
    def from_dict(plain: Mapping[str, Any]) -> EnvSpec:
        """Make a spec from a dict that :meth:`to_dict` returned.

        Raises:
            ValueError: The dict is another one.
        """
        try:
            return EnvSpec(
                name=plain["name"],
                observation=_leaf_from_dict(plain["observation"]),
                action=ActionSpec(**plain["action"]),
                agents=list(plain["agents"]),
                state=plain["state"],
                mirror=_mirror_from_dict(plain.get("mirror")),  # specs of earlier versions lack it, and this:
                state_dtype=plain.get("state_dtype", "float32"),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                "a spec expected name, observation, action, agents and state as EnvSpec.to_dict writes them, "
                f"got {str(plain)[:80]} ({error})"
            ) from error


def _leaf_from_dict(plain: Mapping[str, Any]) -> LeafSpec | dict[str, Any]:
    if isinstance(plain.get("shape"), list):
        return LeafSpec(**plain)
    return {key: _leaf_from_dict(value) for key, value in plain.items()}


def _mirror_from_dict(plain: Any) -> Any:
    if plain is None:
        return None
    if isinstance(plain.get("source"), list):
        return Mirror(**plain)
    return {key: _mirror_from_dict(value) for key, value in plain.items()}


def without_critic(tree: Any) -> Any:
    """Remove, from an observation or a spec of one, the part ``critic``; ``observation`` alone is no dict."""
    if not isinstance(tree, dict) or CRITIC not in tree:
        return tree
    own = {key: value for key, value in tree.items() if key != CRITIC}
    return own[OBSERVATION] if own.keys() == {OBSERVATION} else own
