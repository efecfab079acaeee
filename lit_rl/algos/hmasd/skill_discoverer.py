"""The low level of HMASD: agents that act by their skills (Yang et al. 2023, NeurIPS, section 4.2 and Eq. 7).

Axes: T steps, N environments, A agents; (N) stands for any leading axes of an observation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.algos.hmasd.replay_audit import audit
from lit_rl.algos.hmasd.transformer import one_hot
from lit_rl.algos.multi_agent import AgentIds, Views
from lit_rl.algos.ppo.actor_critic import ACTOR_CONTEXT, CRITIC_CONTEXT, ActorCritic
from lit_rl.algos.ppo.policy import LOG_PROB, ProximalPolicy, Replayed, UpdateSettings, Values
from lit_rl.losses import weighted_mean
from lit_rl.nets import Activation, EncoderFactory
from lit_rl.types import AGENT_SKILLS, OBSERVATION, STATE, TEAM_SKILL, EnvSpec, LeafSpec, Nested, Rollout


class SkillViews(Views):
    """Shows the actor its observation and its skill z^i, and the critic the state and the team's skill Z.

    The skills stand in the observation at the keys ``team_skill`` (N,) and ``agent_skills`` (N, A). Where
    there is only one skill it is not shown, because it says nothing.

    Args:
        spec: Observation and action of the environment.
        n_Z: Number of team skills.
        n_z: Number of skills of an agent.
        is_last: Whether skills join after encoder and GRU instead of before them.
        agent_ids: Which networks see the number of the agent, as ``Views`` explains. ``actor`` and false
            leave the critic as the paper's V_l(s, Z), which is one value for the team.
    """

    def __init__(self, spec: EnvSpec, n_Z: int, n_z: int, is_last: bool, agent_ids: AgentIds) -> None:
        super().__init__(spec, agent_ids, central_critic=True)
        self.n_Z, self.n_z, self.is_last = n_Z, n_z, is_last
        if self.critic is None:
            raise TypeError("the critic of the skill discoverer is central")
        if not is_last:
            self.actor = _with_skill(self.actor, OBSERVATION, AGENT_SKILLS, n_z)
            self.critic = _with_skill(self.critic, STATE, TEAM_SKILL, n_Z)

    def _own(self, tree: Any) -> Any:
        if isinstance(tree, dict):
            tree = {key: value for key, value in tree.items() if key not in (TEAM_SKILL, AGENT_SKILLS)}
        return super()._own(tree)

    def __call__(self, obs: Nested, with_critic: bool = True) -> Nested:
        """Return ``{"actor": ..., "critic": ...}``, and beside them the skills that join after the GRU."""
        seen = super().__call__(obs, with_critic)
        team, agents = obs[TEAM_SKILL], obs[AGENT_SKILLS]
        if self.is_last:
            dtype = obs[STATE].dtype if obs[STATE].is_floating_point() else torch.get_default_dtype()
            late = {ACTOR_CONTEXT: one_hot(agents, self.n_z, dtype)} if self.n_z > 1 else {}
            late |= {CRITIC_CONTEXT: one_hot(team, self.n_Z, dtype)} if self.n_Z > 1 else {}
            return seen | late
        if self.n_z > 1:
            seen["actor"] = _add(seen["actor"], OBSERVATION, AGENT_SKILLS, agents)
        if self.n_Z > 1 and with_critic:
            seen["critic"] = _add(seen["critic"], STATE, TEAM_SKILL, team)
        return seen


def skill_discoverer(
    spec: EnvSpec,
    n_Z: int,
    n_z: int,
    skill_last_layer: bool,
    agent_ids: bool,
    settings: UpdateSettings,
    encoders: tuple[EncoderFactory, EncoderFactory],
    activation: Activation,
    gru: int | None,
    normalize_observation: bool,
    value_norm: bool,
) -> ProximalPolicy:
    """Make the policy pi_l(a^i | o^i, z^i) with the value V_l(s, Z), which learns as MAPPO does.

    With one skill for the team and one for agents it is MAPPO. ``HMASD``, ``PPO`` and ``SkillViews`` explain
    the arguments; ``encoders`` are those of the actor and of the critic.
    """
    views = SkillViews(spec, n_Z, n_z, skill_last_layer, "actor" if agent_ids else False)
    context = (n_z if skill_last_layer and n_z > 1 else 0, n_Z if skill_last_layer and n_Z > 1 else 0)
    encoder, critic_encoder = encoders
    network = ActorCritic(views, [], activation, encoder, False, gru, critic_encoder, context)
    return ProximalPolicy(
        views, network, settings, normalize_observation, value_norm=value_norm, records_log_prob=True
    )


def audit_discoverer(
    policy: ProximalPolicy, rollout: Rollout, replayed: Replayed, tolerance: float | None
) -> Values:
    """Compare the replayed log-probabilities with the collected ones; log the difference and the mean value.

    Raises:
        RuntimeError: They differ by more than ``tolerance``.
    """
    value_TNA, acted_TNA = replayed.output[:-1], policy.views.acted(rollout)
    if policy.value_norm is not None:
        value_TNA = policy.value_norm.denormalize(value_TNA)
    weight_TNA = None if acted_TNA is None else acted_TNA.to(value_TNA.dtype)
    recorded = rollout["extras"][LOG_PROB]
    error = audit(replayed.log_prob, recorded, weight_TNA, tolerance, "the skill discoverer")
    return {metrics.REPLAY_ERROR: error, metrics.VALUE_DISCOVERER: weighted_mean(value_TNA, weight_TNA)}


def _with_skill(spec: EnvSpec, name: str, key: str, number: int) -> EnvSpec:
    if number == 1:
        return spec
    return replace(spec, observation=_add(spec.observation, name, key, LeafSpec([], "int64", [number])))


def _add(tree: Any, name: str, key: str, leaf: LeafSpec | Tensor) -> Any:
    return (tree if isinstance(tree, dict) else {name: tree}) | {key: leaf}
