"""Read from the spaces of a PettingZoo environment what its agents observe and do.

Axes: S state features.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, cast

import numpy as np
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from lit_rl.envs.gymnasium.spec import action_spec, observation_spec
from lit_rl.types import ACTION_MASK, OBSERVATION, ActionSpec, LeafSpec


class AgentSpaces(NamedTuple):
    """The spaces that all agents of an environment share.

    Attributes:
        agents: Ids in the order of the agent axis.
        observations: Space of each agent's observation, without its action mask.
        observation: Description of what one agent observes; with ``pad`` of the longest observation.
        action_space: Space of the action of every agent.
        action: Description of that space.
        is_masked: Whether observations hold an action mask.
    """

    agents: list[Any]
    observations: list[spaces.Space]
    observation: LeafSpec
    action_space: spaces.Space
    action: ActionSpec
    is_masked: bool

    def places(self) -> list[tuple[slice, ...]]:
        """Return which entries of a padded observation each agent fills; ``()`` stands for all of them."""
        is_all = [list(space.shape or ()) == self.observation.shape for space in self.observations]
        return [
            () if whole else (slice((space.shape or (0,))[0]),)
            for space, whole in zip(self.observations, is_all, strict=True)
        ]


def read_spaces(name: str, env: ParallelEnv, pad: bool) -> AgentSpaces:
    """Read agents and spaces of ``env``.

    Args:
        name: Name of the environment, for messages.
        env: The environment; it need not be reset.
        pad: Whether shorter observations may be filled up with zeros.

    Raises:
        ValueError: Agents are not listed, a space has no counterpart here, or agents differ in theirs.
    """
    agents = _agents(name, env)
    observed = [_space(name, env, "observation", agent) for agent in agents]
    masked = [isinstance(space, spaces.Dict) and ACTION_MASK in space.spaces for space in observed]
    if len(set(masked)) > 1:
        raise ValueError(f"{name}: only {agents[masked.index(True)]} has an action mask; all agents need one")
    inner = [_without_mask(name, agent, space) for agent, space in zip(agents, observed, strict=True)]
    actions = [_space(name, env, "action", agent) for agent in agents]
    for agent, space in zip(agents, actions, strict=True):
        if space != actions[0]:
            raise ValueError(
                f"{name}: action space of agent {agent} is {_one_line(space)}, that of agent {agents[0]} is "
                f"{_one_line(actions[0])}; all agents must share one, convert it with a wrapper"
            )
    action = action_spec(name, actions[0])
    if masked[0]:
        for agent, space in zip(agents, observed, strict=True):
            mask = cast("spaces.Dict", space)[ACTION_MASK]
            check_mask_size(f"{name}: action mask of agent {agent}", mask.shape, action)
    return AgentSpaces(agents, inner, _shared(name, agents, inner, pad), actions[0], action, masked[0])


def check_mask_size(what: str, shape: Any, action: ActionSpec) -> None:
    """Refuse an action mask that does not fit the actions; ``what`` begins the message.

    Raises:
        ValueError: Actions are boxes, or the mask has not one entry per choice.
    """
    choices = sum(action.categories)
    if action.kind == "box":
        raise ValueError(f"{what} needs discrete actions, this environment's are boxes; leave the mask out")
    if shape != (choices,):
        raise ValueError(f"{what} must have one entry per choice, here shape ({choices},); it has {shape}")


def read_state(env: ParallelEnv) -> np.ndarray | None:
    """Return the global state, flat ``(S,)``, of bytes uint8 and else float32; None if there is none."""
    if getattr(env.unwrapped.state, "__func__", None) in (ParallelEnv.state, AECEnv.state):
        return None  # not by its error: the base class needs metadata to raise it
    try:
        state = env.state()
    except NotImplementedError:
        return None
    state = np.asarray(state)
    return (state if state.dtype == np.uint8 else state.astype(np.float32)).ravel()


def environment_name(env: ParallelEnv) -> str:
    """Return the name that it gives itself, else that of its class."""
    return getattr(env, "metadata", {}).get("name") or type(env.unwrapped).__name__


def _agents(name: str, env: ParallelEnv) -> list[Any]:
    agents = list(getattr(env, "possible_agents", None) or ())
    if not agents:
        raise ValueError(f"{name}: possible_agents must list all agents before reset, it has none")
    if len(set(map(str, agents))) < len(agents):
        raise ValueError(f"{name}: possible_agents must have different names, got {agents}")
    return agents


def _space(name: str, env: ParallelEnv, kind: str, agent: Any) -> spaces.Space:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PettingZoo's base class advises to override the method
        try:
            space = getattr(env, f"{kind}_space")(agent)
        except (AttributeError, KeyError) as error:
            raise ValueError(f"{name}: {kind}_space of agent {agent} is missing ({error!r})") from error
    if not isinstance(space, spaces.Space):
        raise ValueError(
            f"{name}: {kind}_space of agent {agent} is a {type(space).__name__}, "
            "expected a gymnasium.spaces.Space"
        )
    return space


def _without_mask(name: str, agent: Any, space: spaces.Space) -> spaces.Space:
    if not isinstance(space, spaces.Dict):
        return space
    keys = set(space.spaces)
    if keys != {OBSERVATION, ACTION_MASK}:
        raise ValueError(
            f"{name}: observation of agent {agent} is a Dict with {sorted(keys)}, expected one space or a "
            f"Dict with '{ACTION_MASK}' and '{OBSERVATION}'; flatten it with a wrapper"
        )
    return space[OBSERVATION]


def _shared(name: str, agents: list[Any], observed: list[spaces.Space], pad: bool) -> LeafSpec:
    """Return the observation that all agents have; with ``pad`` the longest."""
    leaves = []
    for agent, space in zip(agents, observed, strict=True):
        leaf = observation_spec(name, space, f"observation of agent {agent}:")
        if isinstance(leaf, dict):
            raise ValueError(f"{name}: observation of agent {agent} holds a Dict; flatten it with a wrapper")
        # exported policies take what the adapter makes of it, because each agent may count from elsewhere
        leaves.append(LeafSpec(leaf.shape, leaf.dtype, leaf.categories))
    first = leaves[0]
    can_pad = all(
        len(leaf.shape) == 1 and not leaf.categories and leaf.dtype == first.dtype for leaf in leaves
    )
    if pad and can_pad:
        return max(leaves, key=lambda leaf: leaf.shape[0])
    for agent, leaf in zip(agents, leaves, strict=True):
        if leaf != first:
            hint = "pad=True fills shorter ones with zeros" if can_pad else "convert them with a wrapper"
            raise ValueError(
                f"{name}: observation of agent {agent} is {_in_words(leaf)}, that of agent {agents[0]} is "
                f"{_in_words(first)}; all agents must share one shape: {hint}"
            )
    return first


def _in_words(leaf: LeafSpec) -> str:
    of = f" of {leaf.categories} choices" if leaf.categories else ""
    return f"{leaf.dtype} of shape {tuple(leaf.shape)}{of}"


def _one_line(space: spaces.Space) -> str:
    return " ".join(str(space).split())
