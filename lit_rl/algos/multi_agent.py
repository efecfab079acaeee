"""Agents that share one policy: what each network sees, and from which experience it learns.

Such learners are MAPPO and IPPO (Yu 2022, arXiv:2103.01955). Three names tell what counts: ``valid`` (bool)
is False where an environment only reset itself; ``acted`` (bool) is False there and for agents that had left
the episode; ``weight`` is ``acted`` as a float, 1 or 0, which losses and means multiply with.

Axes: T steps, N environments, A agents, S state features; (T, N) stands for (T, N, A) where there are agents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import torch
from torch import Tensor

from lit_rl.nested import named_leaves
from lit_rl.types import ALIVE, CRITIC, OBSERVATION, STATE, EnvSpec, LeafSpec, Nested, Rollout, without_critic

AGENT_ID = "agent_id"
"""Key of the agent's number, a discrete leaf: encoders append it as a one-hot vector."""

AgentIds: TypeAlias = bool | Literal["actor"]
"""Which networks see the agent's number: none, all, or the actor alone."""


class Rows(NamedTuple):
    """Rewards and ends of a rollout, ``(T, N)``; what a team shares is repeated for each of its agents.

    Attributes:
        reward: The reward of the agent or of its team.
        terminated: True where the value of what follows is 0.
        done: True where the return of the agent ends.
        valid: False where no transition took place; None where all steps are transitions.
        acted: What :meth:`Views.acted` returned.
        begins: ``(N,)``, True where an episode begins at the first step.
    """

    reward: Tensor
    terminated: Tensor
    done: Tensor
    valid: Tensor | None
    acted: Tensor | None
    begins: Tensor


class Views:
    """Picks what the actor and the critic see out of an observation of the environment.

    A single agent sees everything but the part ``critic``. Each of several agents sees its own observation,
    but neither the global state nor who is alive. A dict in which only ``observation`` is left is replaced by
    that entry.

    Args:
        spec: Observation and action of the environment.
        agent_ids: Whether the number of the agent is appended to what networks see.
        central_critic: Whether the critic sees the global state instead. Each state has one value, which all
            agents share; with ``agent_ids`` true it has one for each agent, whose number the critic sees. Of
            a single agent, the critic sees the part ``critic`` of the observation instead.

    Attributes:
        spec: Observation and action of the environment.
        num_agents: Number of agents A; 0 when there is no agent axis.
        may_leave: Whether agents may leave an episode early.
        actor: Spec of what the actor sees.
        critic: Spec of what the critic sees; None when it sees what the actor sees.
        shared_value: Whether the critic has one value for all agents of an environment.

    Raises:
        ValueError: The environment has no agent axis, or no global state, that an argument needs.
    """

    def __init__(self, spec: EnvSpec, agent_ids: AgentIds = False, central_critic: bool = False) -> None:
        if agent_ids and not spec.agents:
            raise ValueError(
                f"agent_ids = {str(agent_ids).lower()} needs an environment of several agents, "
                f"{spec.name} has no agent axis; leave it false"
            )
        self._is_alone = central_critic and spec.has_critic_part and not spec.agents
        if central_critic and not (spec.state or self._is_alone):
            raise ValueError(
                "central_critic = true needs an environment with a global state of several agents, or with a "
                f"part {CRITIC!r} in the observation of one, {spec.name} has neither; leave it false"
            )
        self.spec, self.num_agents = spec, len(spec.agents)
        self._agent_ids = bool(agent_ids)
        identity = LeafSpec([], "int64", [self.num_agents])
        self.may_leave = (
            bool(spec.agents) and isinstance(spec.observation, dict) and ALIVE in spec.observation
        )
        own, state = self._own(spec.observation), LeafSpec([spec.state])
        self._leaf, first = next(named_leaves(own))  # any leaf will do, to tell the leading axes
        self._axes = len(first.shape)
        self.actor = replace(spec, observation=own | {AGENT_ID: identity} if agent_ids else own)
        self.shared_value = central_critic and agent_ids is not True and not self._is_alone
        if self._is_alone:
            seen = cast("dict[str, Any]", spec.observation)[CRITIC]
        else:
            seen = state if self.shared_value else {STATE: state, AGENT_ID: identity}
        self.critic = replace(spec, observation=seen) if central_critic else None

    @property
    def observation(self) -> LeafSpec | dict[str, Any]:
        """Spec of what a call of this object returns."""
        own = self.actor.observation
        return own if self.critic is None else {"actor": own, "critic": self.critic.observation}

    def __call__(self, obs: Nested, with_critic: bool = True) -> Nested:
        """Return what the actor sees; with a central critic ``{"actor": ..., "critic": ...}``.

        Args:
            obs: What the environment returned: leaves ``(..., A, *shape)``, and perhaps a state ``(..., S)``.
            with_critic: False leaves out what only a central critic sees.
        """
        own = self._own(obs)
        if self._agent_ids:
            leaf = dict(named_leaves(own))[self._leaf]
            own |= {AGENT_ID: self._numbers(leaf.shape[: leaf.ndim - self._axes], leaf.device)}
        if self.critic is None:
            return own
        if not with_critic:
            return {"actor": own}
        return {"actor": own, "critic": obs[CRITIC] if self._is_alone else self._central(obs[STATE])}

    def _own(self, tree: Any) -> Any:
        """Remove what an agent does not see from an observation or a spec; with agent numbers keep a dict."""
        if not self.num_agents:
            return without_critic(tree)
        tree = tree if isinstance(tree, dict) else {OBSERVATION: tree}
        own = {key: value for key, value in tree.items() if key not in (STATE, ALIVE)}
        return own[OBSERVATION] if own.keys() == {OBSERVATION} and not self._agent_ids else own

    def _numbers(self, lead: Sequence[int], device: torch.device) -> Tensor:
        return torch.arange(self.num_agents, device=device).expand(lead)

    def _central(self, state: Tensor) -> Nested:
        state = state if state.is_floating_point() else state.float()  # images are kept as uint8
        if self.shared_value:
            return state
        lead = (*state.shape[:-1], self.num_agents)
        return {STATE: state.unsqueeze(-2).expand(*lead, -1), AGENT_ID: self._numbers(lead, state.device)}

    def alive(self, obs: Nested) -> Tensor | None:
        """Tell which agents are still in the episode, bool ``(..., A)``; None when they can never leave."""
        return obs[ALIVE] > 0 if self.may_leave else None

    def acted(self, rollout: Rollout) -> Tensor | None:
        """Tell which agents acted in a transition, bool ``(T, N)``; None when all did, at every step."""
        alive, valid = self.alive(rollout["obs"]), rollout["valid"]
        if alive is None:
            return None if valid is None else self._spread(valid)
        return alive[:-1] if valid is None else alive[:-1] & valid.unsqueeze(-1)

    def rows(self, rollout: Rollout) -> Rows:
        """Return rewards and ends for each agent; what a team shares is repeated.

        An agent's return ends where it leaves, even as others are cut; where its time was up (``CUT``), the
        value of what it saw last follows. With a central critic a team's reward goes on (MAPPO).
        """
        is_team = rollout["reward"].ndim == 2
        reward = self._spread(rollout["reward"]) if is_team else rollout["reward"]
        terminated = self._spread(rollout["terminated"])
        done = self._spread(rollout["terminated"] | rollout["truncated"])
        valid = None if rollout["valid"] is None else self._spread(rollout["valid"])
        alive = self.alive(rollout["obs"])
        if alive is not None and not (is_team and self.critic is not None):
            after = rollout["obs"][ALIVE][1:].clone()
            after.flatten(0, 1)[rollout["final_index"]] = rollout["final_obs"][ALIVE]
            leaves = alive[:-1] & (after <= 0)
            terminated, done = terminated | (leaves & (after == 0)), done | leaves
        return Rows(reward, terminated, done, valid, self.acted(rollout), self._spread(rollout["reset"][0]))

    def _spread(self, leaf: Tensor) -> Tensor:
        return leaf[..., None].expand(*leaf.shape, self.num_agents).contiguous() if self.num_agents else leaf
