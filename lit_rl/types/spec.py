"""What a policy must know of an environment, and the keys of what environments and policies report.

Axes: N environments, A agents, S state features, J tokens, W token features.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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
state ``(N, S)``, and which agents act ``(N, A)`` (1, or 0 for one that left the episode early)."""

IS_SUCCESS = "is_success"
"""Key of ``info`` by which an environment reports 1 at the last step of an episode that reached its goal."""

TEAM_SKILL, AGENT_SKILLS, SKILL_START = "team_skill", "agent_skills", "skill_start"
"""Keys of ``extras`` by which a policy with skills says which skills each step follows: the skill of the team
``(N,)`` int64, those of its agents ``(N, A)`` int64, and ``(N,)`` bool, True where they were assigned at this
step."""


@dataclass(frozen=True)
class LeafSpec:
    """The kind of array that an observation is, or that stands at one key of a Dict observation.

    Args:
        shape: Shape without the environment and agent axes.
        dtype: Name of the dtype in which the environment delivers the array. Policies receive real values as
            float32, and integers as int64.
        categories: Number of values that each entry can take, where entries are integers from 0 on; an empty
            list where they are real numbers.
    """

    shape: list[int]
    dtype: str = "float32"
    categories: list[int] = field(default_factory=list)


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

    def to_dict(self) -> dict[str, Any]:
        """Return a plain nested dict, which ``torch.load(weights_only=True)`` accepts."""
        return asdict(self)

    def check_same(self, other: EnvSpec | None) -> None:
        """Refuse an environment that weights trained on this one do not fit; None is never refused.

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
        """Make a spec from a dict that :meth:`to_dict` returned."""
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
