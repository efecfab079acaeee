"""The networks of PPO: actor and critic, feed-forward or recurrent.

Axes: T steps, N environments, A agents, B samples (transitions or chunks), L window steps, H hidden units,
F features, K finished episodes; (T, N), (B) and (B, L) stand for (T, N, A), (B, A) and (B, L, A) where there
are agents. A value that the agents share is computed once.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_rl.algos.multi_agent import Views
from lit_rl.checks import check_encoder
from lit_rl.distributions import DiagNormal, distribution_for, mask_logits, precise
from lit_rl.nested import cast_floats, map_nested
from lit_rl.nets import Activation, EncoderFactory, Flatten, GRUCore, NumpyMLP, mlp
from lit_rl.types import ACTION_MASK, JOINT_MASK, Nested, Rollout

ACTOR_CONTEXT, CRITIC_CONTEXT = "actor_context", "critic_context"


class ActorCritic(nn.Module):
    """Actor and critic, each made of an encoder, perhaps a GRU, and a perceptron.

    Args:
        views: What actor and critic see, and the action.
        hidden: Widths of the hidden layers.
        activation: Function between hidden layers.
        encoder: Makes an encoder; None flattens.
        share_encoder: Whether actor and critic have one encoder together.
        gru: Hidden units of the recurrent cores; None is a policy without memory.
        critic_encoder: Makes the encoder of what a central critic sees; None flattens.
        initial_std: Standard deviation of continuous actions at the start.
        context: Lengths of the vectors ``actor_context`` and ``critic_context`` in what is seen, which join
            the features after encoder and GRU.
    """

    def __init__(
        self,
        views: Views,
        hidden: list[int],
        activation: Activation,
        encoder: EncoderFactory | None,
        share_encoder: bool,
        gru: int | None,
        critic_encoder: EncoderFactory | None = None,
        context: tuple[int, int] = (0, 0),
        initial_std: float = 1.0,
    ) -> None:
        super().__init__()
        make, spec = encoder or Flatten, views.actor
        self.gru = gru
        self.is_central = views.critic is not None
        self.value_agents = views.num_agents if views.shared_value else 0
        self.distribution = distribution_for(spec.action)
        self.has_mask, self.has_joints = spec.has_action_mask, spec.has_joints
        self.action_spec = spec.action
        self.actor_encoder = make(spec)
        if views.critic is not None:
            self.critic_encoder = (critic_encoder or Flatten)(views.critic)
        else:
            self.critic_encoder = self.actor_encoder if share_encoder else make(spec)
        features = check_encoder(self.actor_encoder)
        critic_features = check_encoder(self.critic_encoder)
        self.actor_core = GRUCore(features, gru) if gru else None
        self.critic_core = GRUCore(critic_features, gru) if gru else None
        outputs = self.distribution.num_outputs
        of_joints = getattr(self.actor_encoder, "of_joints", mlp) if self.has_joints else mlp
        of_whole = getattr(self.critic_encoder, "of_whole", mlp)
        self.actor = of_joints([(gru or features) + context[0], *hidden, outputs], activation, 0.01)
        self.critic = of_whole([(gru or critic_features) + context[1], *hidden, 1], activation, 1.0)
        shape = [1 if self.has_joints else spec.action.size]  # joints share theirs, however many they are
        log_std = torch.full(shape, math.log(initial_std))
        self.log_std = nn.Parameter(log_std) if spec.action.kind == "box" else None
        if initial_std != 1.0:
            spec.check_continuous(f"PPO: initial_std = {initial_std}", "leave it out")
        plain = isinstance(self.actor_encoder, Flatten) and self.actor_encoder.is_identity and gru is None
        plain = plain and not context[0]
        self._numpy_actor = NumpyMLP(self.actor) if plain and NumpyMLP.supports(self.actor) else None

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.actor.parameters()).dtype

    def _own(self, obs: Nested) -> Nested:
        return obs["actor"] if self.is_central else obs

    def _central(self, obs: Nested) -> Nested:
        return obs["critic"] if self.is_central else obs

    # Acting

    def act(self, obs: Nested, greedy: bool, with_log_prob: bool = False) -> tuple[Tensor, Tensor | None]:
        """Choose actions ``(..., *action shape)`` without memory; also return log-probabilities, or None.

        ``obs`` is what ``Views`` returned.
        """
        own = self._own(obs)
        if self._numpy_actor is not None and self._numpy_actor.serves(own):
            outputs = torch.from_numpy(self._numpy_actor(own.numpy()))
        else:
            own = cast_floats(own, self._dtype)  # environments speak float32, weights perhaps float64
            outputs = self._actor(self.actor_encoder(own), obs)
        return self._choose(outputs, own, greedy, with_log_prob)

    def act_recurrent(
        self, obs: Nested, hidden: dict[str, Tensor], reset: Tensor, greedy: bool, with_log_prob: bool = False
    ) -> tuple[Tensor, Tensor | None, Nested]:
        """Choose actions with memory; also return log-probabilities, or None, and the hidden states after.

        The memory of a central critic stays as it is where ``obs`` has not what the critic sees.
        """
        obs = cast_floats(obs, self._dtype)
        actor_core, critic_core = self._cores()
        after = dict(hidden)
        after["actor"] = actor_core.step(self.actor_encoder(self._own(obs)), hidden["actor"], reset)
        if not self.is_central or "critic" in obs:
            seen = self.critic_encoder(self._central(obs))
            after["critic"] = critic_core.step(seen, hidden["critic"], reset)
        outputs = self._actor(after["actor"], obs)
        return *self._choose(outputs, self._own(obs), greedy, with_log_prob), after

    def _choose(
        self, outputs: Tensor, obs: Nested, greedy: bool, with_log_prob: bool
    ) -> tuple[Tensor, Tensor | None]:
        parameters = self.parameters_of(outputs, obs)
        action = self.distribution.mode(parameters) if greedy else self.distribution.sample(parameters)
        log_prob = self.distribution.log_prob(parameters, action) if with_log_prob else None
        return self.action_spec.shaped(action), log_prob

    def parameters_of(self, outputs: Tensor, obs: Nested) -> tuple[Tensor, ...]:
        """Return the parameters of the distribution; disallowed actions have probability 0."""
        outputs = precise(outputs)
        if isinstance(self.distribution, DiagNormal):
            return outputs, cast("Tensor", self.log_std), *([obs[JOINT_MASK]] if self.has_joints else [])
        return (mask_logits(outputs, obs[ACTION_MASK]) if self.has_mask else outputs,)

    def _cores(self) -> tuple[GRUCore, GRUCore]:
        if self.actor_core is None or self.critic_core is None:
            raise TypeError("a recurrent forward was asked of a network without GRU; build it with gru=...")
        return self.actor_core, self.critic_core

    # Learning

    def _evaluate(
        self, outputs: Tensor, obs: Nested, action: Tensor, with_entropy: bool = True
    ) -> tuple[Tensor, Tensor]:
        parameters, action = self.parameters_of(outputs, obs), self.action_spec.flattened(action)
        if with_entropy:
            return self.distribution.log_prob_and_entropy(parameters, action)
        log_prob = self.distribution.log_prob(parameters, action)
        return log_prob, log_prob.new_zeros(())

    def forward(self, samples: dict[str, Any], with_entropy: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """Compute log-probability and entropy of the stored actions, and values.

        Args:
            samples: ``obs`` (what ``Views`` returned) and ``action``, ``(B, ...)``. Chunks are ``(B, L,
                ...)``, with ``reset`` (B, L), and with the hidden states ``hidden_actor`` and
                ``hidden_critic`` (B, H) before their first step.
            with_entropy: False spares its computation; it is then a scalar 0.

        Returns:
            Three tensors of shape (B,), or (B, L).
        """
        actor_in, critic_in = self._encode(samples["obs"])
        if self.actor_core is not None:
            reset_LB = samples["reset"].transpose(0, 1)
            actor_core, critic_core = self._cores()
            actor_LBH = actor_core(actor_in.transpose(0, 1), samples["hidden_actor"], reset_LB)
            critic_LBH = critic_core(critic_in.transpose(0, 1), samples["hidden_critic"], reset_LB)
            actor_in, critic_in = actor_LBH.transpose(0, 1), critic_LBH.transpose(0, 1)
        outputs, obs = self._actor(actor_in, samples["obs"]), self._own(samples["obs"])
        log_prob, entropy = self._evaluate(outputs, obs, samples["action"], with_entropy)
        return log_prob, entropy, self._value(critic_in, samples["obs"])

    def _actor(self, features: Tensor, obs: Nested) -> Tensor:
        return self.actor(_join(features, obs, ACTOR_CONTEXT))

    def _encode(self, obs: Nested) -> tuple[Tensor, Tensor]:
        actor_in = self.actor_encoder(self._own(obs))
        shared = self.critic_encoder is self.actor_encoder
        return actor_in, actor_in if shared else self.critic_encoder(self._central(obs))

    def _value(self, critic_in: Tensor, obs: Nested) -> Tensor:
        value = precise(self.critic(_join(critic_in, obs, CRITIC_CONTEXT)).squeeze(-1))
        agents = self.value_agents
        return value.unsqueeze(-1).expand(*value.shape, agents) if agents else value

    def over_rollout(
        self, obs: Nested, final_obs: Nested, rollout: Rollout
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Evaluate a rollout of a policy without memory.

        Returns:
            Log-probability (T, N), entropy (T, N), value (T+1, N), and value of the final observations (K,).
        """
        steps, envs = rollout["terminated"].shape
        everything = map_nested(lambda leaf, final: torch.cat([leaf.flatten(0, 1), final]), obs, final_obs)
        values = self._value(self.critic_encoder(self._central(everything)), everything)
        seen = map_nested(lambda leaf: leaf[:steps].flatten(0, 1), obs)
        action = rollout["action"].flatten(0, 1)
        outputs = self._actor(self.actor_encoder(self._own(seen)), seen)
        log_prob, entropy = self._evaluate(outputs, self._own(seen), action)
        split = (steps + 1) * envs
        value = values[:split].unflatten(0, (steps + 1, envs))
        lead = (steps, envs)
        return log_prob.unflatten(0, lead), entropy.unflatten(0, lead), value, values[split:]

    def over_rollout_recurrent(
        self, obs: Nested, final_obs: Nested, rollout: Rollout
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Evaluate a rollout of a recurrent policy from its first carry, as :meth:`over_rollout` does."""
        steps = len(rollout["terminated"])
        reset, carry = rollout["reset"], rollout["carry"]
        actor_core, critic_core = self._cores()
        actor_in, critic_in = self._encode(obs)  # (T+1, N, F)
        hidden_actor = actor_core(actor_in[:steps], carry["actor"], reset[:steps])
        hidden_critic = critic_core(critic_in, carry["critic"], reset)
        seen = map_nested(lambda leaf: leaf[:steps], obs)
        outputs = self._actor(hidden_actor, seen)
        log_prob, entropy = self._evaluate(outputs, self._own(seen), rollout["action"])
        value = self._value(hidden_critic, obs)
        index = rollout["final_index"]
        if len(index):
            # an episode's last observation is seen with the memory after the step that ended it
            before = hidden_critic[:steps].flatten(0, 1)[index]
            final_in = self.critic_encoder(self._central(final_obs))
            last = critic_core.step(final_in, before, torch.zeros_like(index, dtype=torch.bool))
            return log_prob, entropy, value, self._value(last, final_obs)
        return log_prob, entropy, value, value.new_empty(0, *value.shape[2:])


def _join(features: Tensor, obs: Nested, key: str) -> Tensor:
    if isinstance(obs, dict) and key in obs:
        return torch.cat([features, obs[key].to(features.dtype)], -1)
    return features
