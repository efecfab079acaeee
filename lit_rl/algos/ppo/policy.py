"""A policy and its proximal update, for ``PPO`` and for the agents of ``HMASD``: both *have* one.

The update goes ``replay`` -> ``samples`` -> ``optimize`` -> ``observe``. Axes: T time, N environments,
A agents, B minibatch (transitions, or C chunks of L steps), K episode ends, H hidden units; ... stands for
(N) or (N, A).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from lit_rl import losses, metrics
from lit_rl.algos.multi_agent import Views
from lit_rl.algos.ppo.actor_critic import ActorCritic
from lit_rl.algos.ppo.samples import (
    Samples,
    cut_chunks,
    estimate,
    normalized_epochs,
    rows_per_minibatch,
    shuffled_epochs,
)
from lit_rl.nested import map_nested
from lit_rl.nets import zero_where
from lit_rl.normalize import ObservationNorm, ReturnScale, ValueNorm
from lit_rl.types import Decision, Nested, Rollout

if TYPE_CHECKING:
    from lit_rl.flat import FlatAdam
    from lit_rl.ranks import Ranks

LOG_PROB = "log_prob"
"""Key of ``extras`` for the log-probability of an action when it was chosen, ``(N,)`` or ``(N, A)``."""

Values: TypeAlias = dict[str, Tensor | float]
"""What is logged, by the names of ``metrics.py``."""


@dataclass(frozen=True)
class UpdateSettings:
    """Numbers of the update; ``PPO`` explains each, and checks their ranges."""

    learning_rate: float
    update_epochs: int
    gamma: float
    gae_lambda: float
    clip: float
    clip_value: float | None
    value_coef: float
    entropy_coef: float
    huber_delta: float | None
    target_kl: float | None = None
    normalize_advantage: bool = True
    chunk_length: int = 16


class Replayed(NamedTuple):
    """A rollout seen by the policy that collected it, before anything is trained.

    Attributes:
        obs: What actor and critic see, (T+1, N, ...).
        log_prob: Log-probabilities of the actions taken, (T, ...).
        entropy: Entropy of the policy, (T, ...).
        output: What the critic puts out, (T+1, ...).
        final_output: What it puts out for the true last observations, (K, ...).
    """

    obs: Nested
    log_prob: Tensor
    entropy: Tensor
    output: Tensor
    final_output: Tensor


class StepLog(NamedTuple):
    """What is known of one gradient step: three losses, and the log of the probability ratio (B,)."""

    policy: Tensor
    value: Tensor
    total: Tensor
    log_ratio: Tensor


class ProximalPolicy(nn.Module):
    """Actor and critic, their normalizers, and how they are trained by PPO (Schulman 2017, arXiv:1707.06347).

    Args:
        views: What actor and critic see of the environment's observations.
        network: Actor and critic for these views.
        settings: Numbers of the update.
        normalize_observation: Normalise observations by running statistics, frozen within an update.
        normalize_return: Scale rewards by the spread of the running return.
        value_norm: Let the critic predict normalised returns.
        records_log_prob: Note the log-probability of every action when it is chosen.
    """

    def __init__(
        self,
        views: Views,
        network: ActorCritic,
        settings: UpdateSettings,
        normalize_observation: bool = False,
        normalize_return: bool = False,
        value_norm: bool = False,
        records_log_prob: bool = False,
    ) -> None:
        super().__init__()
        self.views, self.network, self.settings = views, network, settings
        self.observation_norm = ObservationNorm(views.observation) if normalize_observation else None
        self.return_scale = ReturnScale(settings.gamma) if normalize_return else None
        self.value_norm = ValueNorm() if value_norm else None
        self.records_log_prob = records_log_prob

    # Acting

    def initial_carry(self, num_envs: int) -> Nested:
        """Zero hidden states ``(N, H)`` of actor and critic, or ``(N, A, H)``; ``{}`` without a GRU.

        A critic whose value the agents share has one of ``(N, H)``.
        """
        if self.network.gru is None:
            return {}
        agents = [self.views.num_agents] if self.views.num_agents else []
        device = next(self.network.parameters()).device
        actor = torch.zeros(num_envs, *agents, self.network.gru, device=device)
        return {"actor": actor, "critic": torch.zeros_like(actor[:, 0] if self.views.shared_value else actor)}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Sample (or take the mode of) the policy; a recurrent one records its hidden states before."""
        is_recurrent = self.network.gru is not None
        seen = self._normalized(self.views(obs, with_critic=is_recurrent))
        if not is_recurrent:
            action, log_prob = self.network.act(seen, greedy, self.records_log_prob)
            after, extras = carry, {}
        else:
            kept = map_nested(lambda hidden: zero_where(reset, hidden), carry)
            action, log_prob, after = self.network.act_recurrent(
                seen, kept, reset, greedy, self.records_log_prob
            )
            extras = {"hidden_actor": kept["actor"], "hidden_critic": kept["critic"]}
        return Decision(action, after, extras if log_prob is None else extras | {LOG_PROB: log_prob})

    def _normalized(self, seen: Nested) -> Nested:
        return seen if self.observation_norm is None else self.observation_norm(seen)

    # Learning

    @torch.no_grad()
    def replay(self, rollout: Rollout) -> Replayed:
        """Log-probabilities and values of the whole rollout, from one batched forward each."""
        obs = self._normalized(self.views(rollout["obs"]))
        final_obs = self._normalized(self.views(rollout["final_obs"]))
        network = self.network
        forward = network.over_rollout if network.gru is None else network.over_rollout_recurrent
        return Replayed(obs, *forward(obs, final_obs, rollout))

    @torch.no_grad()
    def samples(self, rollout: Rollout, replayed: Replayed, ranks: Ranks) -> tuple[Samples, Values]:
        """Advantages and value targets of every transition (Schulman 2016), and what to log of them.

        Returns:
            Samples (T*N, ...), or chunks (C, L, ...) of a recurrent policy; and values to log.

        Raises:
            ValueError: ``chunk_length`` does not divide the steps of the rollout.
        """
        rows, output, settings = self.views.rows(rollout), replayed.output, self.settings
        next_output = output[1:].clone(memory_format=torch.contiguous_format)
        next_output.flatten(0, 1)[rollout["final_index"]] = replayed.final_output
        advantage, target, explained = estimate(
            rows, output[:-1], next_output, settings.gamma, settings.gae_lambda, self.return_scale,
            self.value_norm, ranks.sum,
        )  # fmt: skip
        weight = None if rows.counts is None else _weight(rows.counts, replayed.entropy)
        logged: Values = {
            metrics.ENTROPY: losses.weighted_mean(replayed.entropy, weight),
            metrics.EXPLAINED_VARIANCE: explained,  # not finite, and then not logged, when returns are equal
        }
        samples: Samples = {
            "obs": map_nested(lambda leaf: leaf[:-1], replayed.obs),
            "action": rollout["action"],
            "log_prob": replayed.log_prob,
            "advantage": advantage,
            "return": target,
        }
        if settings.clip_value is not None:
            samples["value"] = output[:-1]
        if self.views.may_leave or self.network.gru is not None:
            samples["weight"] = _weight(rows.counts, target)
        if self.network.gru is None:
            return map_nested(lambda leaf: leaf.flatten(0, 1), samples), logged  # (T*N, ...)
        samples["reset"] = rollout["reset"][:-1]
        length, steps = settings.chunk_length, len(target)
        if steps % length:
            raise ValueError(f"PPO: chunk_length = {length} must divide rollout_steps = {steps}")
        return cut_chunks(samples, rollout["extras"], length), logged

    def optimize(
        self,
        samples: Samples,
        valid: Tensor | None,
        optimizer: FlatAdam,
        ranks: Ranks,
        batch_size: int,
        factor: float = 1.0,
    ) -> tuple[int, Values]:
        """All epochs of gradient steps over shuffled minibatches.

        Args:
            samples: What :meth:`samples` returned.
            valid: Which transitions took place, (T, N); None means all.
            optimizer: The one of :attr:`network`.
            ranks: Advantages are normalised, and KL is judged, over all of them.
            batch_size: Transitions per minibatch, those of each agent counted.
            factor: Multiplies learning rate and ``clip``.

        Returns:
            Number of gradient steps, and values to log.
        """
        settings = self.settings
        clip = settings.clip * factor
        optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
        # compiled it is a tensor: annealing must not recompile
        bound = torch.tensor(clip, device=samples["log_prob"].device) if optimizer.is_compiled else clip
        steps: list[StepLog] = []
        log_ratio, weight, epochs_done = samples["log_prob"].new_zeros(0), None, 0
        for minibatches in self.minibatches(samples, valid, ranks, batch_size):
            epoch = [optimizer.minimize_fn(self.loss, minibatch, bound) for minibatch in minibatches]
            steps += epoch
            epochs_done += 1
            log_ratio = torch.cat([step.log_ratio.flatten() for step in epoch])
            if "weight" in minibatches[0]:
                weight = torch.cat([minibatch["weight"].flatten() for minibatch in minibatches])
            if settings.target_kl is not None:
                kl = ranks.mean(losses.approximate_kl(log_ratio, weight))
                if kl.item() > 1.5 * settings.target_kl:
                    break
        return len(steps), {
            metrics.LOSS_POLICY: torch.stack([step.policy for step in steps]).mean(),
            metrics.LOSS_VALUE: torch.stack([step.value for step in steps]).mean(),
            metrics.LOSS_TOTAL: torch.stack([step.total for step in steps]).mean(),
            metrics.KL: losses.approximate_kl(log_ratio, weight),
            metrics.CLIP_FRACTION: losses.clip_fraction(log_ratio, clip, weight),
            metrics.EPOCHS: float(epochs_done),
            metrics.LEARNING_RATE: settings.learning_rate * factor,
        }

    def minibatches(
        self, samples: Samples, valid: Tensor | None, ranks: Ranks, batch_size: int
    ) -> Iterator[list[Samples]]:
        """Per epoch, minibatches of constant size, shuffled, with normalised advantages."""
        is_recurrent, settings = self.network.gru is not None, self.settings
        per_row = (self.views.num_agents or 1) * (settings.chunk_length if is_recurrent else 1)
        per_batch = rows_per_minibatch(batch_size, per_row, samples["log_prob"])
        # recurrent chunks keep rows that are no transitions, with weight 0
        usable = None if valid is None or is_recurrent else valid.flatten().nonzero().squeeze(-1)
        epochs = shuffled_epochs(samples, usable, per_batch, settings.update_epochs)
        return normalized_epochs(epochs, ranks.sum) if settings.normalize_advantage else epochs

    def loss(
        self, parameters: dict[str, Tensor] | None, minibatch: Samples, clip: float | Tensor
    ) -> tuple[Tensor, StepLog]:
        """L = policy loss + c1 * value loss - c2 * entropy (Schulman 2017, eq. 9), and what is logged.

        Args:
            parameters: Evaluate the network with these in place of its own, unless None.
            minibatch: Samples (B, ...).
            clip: Half width of the trusted interval of the probability ratio.
        """
        settings = self.settings
        inputs = (minibatch, settings.entropy_coef != 0)
        if parameters is None:
            log_prob, entropy, value = self.network(*inputs)
        else:
            log_prob, entropy, value = torch.func.functional_call(self.network, parameters, inputs)
        weight, old_log_prob, target = minibatch.get("weight"), minibatch["log_prob"], minibatch["return"]
        policy_loss = losses.clipped_surrogate(log_prob, old_log_prob, minibatch["advantage"], clip, weight)
        if settings.clip_value is None:
            error = losses.value_loss(value, target, weight, settings.huber_delta)
        else:
            old_value, width = minibatch["value"], settings.clip_value
            error = losses.clipped_value_loss(value, old_value, target, width, weight, settings.huber_delta)
        total = torch.add(policy_loss, error, alpha=settings.value_coef)
        if settings.entropy_coef:
            total = torch.sub(total, losses.weighted_mean(entropy, weight), alpha=settings.entropy_coef)
        log_ratio = (log_prob - old_log_prob).detach()
        return total, StepLog(policy_loss.detach(), error.detach(), total.detach(), log_ratio)

    def observe(self, rollout: Rollout, ranks: Ranks) -> None:
        """Add what was seen to the statistics of observations; states are one per environment."""
        norm = self.observation_norm
        if norm is None:
            return
        seen = map_nested(lambda leaf: leaf[:-1], self.views(rollout["obs"]))
        own = {"actor": seen["actor"]} if self.network.is_central else seen
        norm.update(own, valid=self.views.counts(rollout), sum_over_ranks=ranks.sum)
        if self.network.is_central:
            norm.update({"critic": seen["critic"]}, valid=rollout["valid"], sum_over_ranks=ranks.sum)

    def local_state(self) -> dict[str, dict[str, Tensor]]:
        """State that differs between ranks: the running returns of this rank's environments."""
        return {} if self.return_scale is None else {"return_scale": self.return_scale.get_state()}

    def load_local_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from what :meth:`local_state` returned."""
        if self.return_scale is not None:
            self.return_scale.set_state(state["return_scale"])


def _weight(counts: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if counts is None else counts.to(like.dtype)
