"""A policy and its proximal update; ``PPO`` has one, and ``HMASD`` has one for its agents.

The update calls ``replay``, ``samples``, ``optimize`` and ``observe``, in this order. Axes: T steps,
N environments, A agents, B samples (transitions or chunks), L window steps, K finished episodes, H hidden
units; (T, N) stands for (T, N, A) where there are agents, and (B) for all axes of a minibatch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

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
    samples_per_minibatch,
    shuffled_epochs,
)
from lit_rl.algos.ppo.symmetry import reflect, with_mirror_images
from lit_rl.nested import map_nested
from lit_rl.normalize import ObservationNorm, ReturnScale, ValueNorm
from lit_rl.returns import zero_where
from lit_rl.types import Decision, Nested, Rollout

if TYPE_CHECKING:
    from lit_rl.flat import FlatAdam
    from lit_rl.ranks import Ranks

LOG_PROB = "log_prob"
"""Key of ``extras`` for the log-probability of an action when it was chosen, ``(N,)`` or ``(N, A)``."""

Values: TypeAlias = dict[str, Tensor | float]
"""Values to log, by the names of ``metrics.py``."""


@dataclass(frozen=True)
class UpdateSettings:
    """Numbers that shape the update; ``PPO`` explains each, and checks their ranges."""

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
    adaptive_kl: float | None = None
    symmetry_augmentation: bool = False


class Replayed(NamedTuple):
    """A rollout seen by the policy that collected it, before anything is trained.

    Attributes:
        obs: What actor and critic see, (T+1, N, ...).
        log_prob: Log-probabilities of the actions taken, (T, N).
        entropy: Entropies of the policy, (T, N).
        output: Outputs of the critic, (T+1, N).
        final_output: Outputs of the critic for the true last observations of finished episodes, (K,).
    """

    obs: Nested
    log_prob: Tensor
    entropy: Tensor
    output: Tensor
    final_output: Tensor


class StepLog(NamedTuple):
    """Three losses of one gradient step, and the logarithms of its probability ratios (B,)."""

    policy: Tensor
    value: Tensor
    total: Tensor
    log_ratio: Tensor


class ProximalPolicy(nn.Module):
    """Actor, critic and their statistics, trained by PPO (Schulman 2017, arXiv:1707.06347).

    Args:
        views: What actor and critic see of the environment's observations.
        network: Actor and critic for these views.
        settings: Numbers that shape the update.
        normalize_observation: Whether observations are normalised by statistics that an update leaves alone.
        normalize_return: Whether rewards are scaled by the spread of the running return.
        value_norm: Whether the critic predicts normalised returns.
        records_log_prob: Whether the log-probability of every action is recorded when it is chosen.
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
        """Return zero hidden states of actor and critic, ``(N, H)`` or ``(N, A, H)``; ``{}`` without a GRU.

        A critic whose value the agents share has hidden states ``(N, H)``.
        """
        if self.network.gru is None:
            return {}
        agents = [self.views.num_agents] if self.views.num_agents else []
        device = next(self.network.parameters()).device
        actor = torch.zeros(num_envs, *agents, self.network.gru, device=device)
        return {"actor": actor, "critic": torch.zeros_like(actor[:, 0] if self.views.shared_value else actor)}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Sample the policy, or take its mode; a recurrent one records the hidden states before the step."""
        network, records = self.network, self.records_log_prob  # looked up once: it is a module's attribute
        is_recurrent = network.gru is not None
        seen = self._normalized(self.views(obs, with_critic=is_recurrent and not greedy))
        if not is_recurrent:
            action, log_prob = network.act(seen, greedy, records)
            after, extras = carry, {}
        else:
            kept = map_nested(lambda hidden: zero_where(reset, hidden), carry)
            action, log_prob, after = network.act_recurrent(seen, kept, reset, greedy, records)
            extras = {"hidden_actor": kept["actor"], "hidden_critic": kept["critic"]}
        return Decision(action, after, extras if log_prob is None else extras | {LOG_PROB: log_prob})

    def _normalized(self, seen: Nested) -> Nested:
        return seen if self.observation_norm is None else self.observation_norm(seen)

    # Learning

    @torch.no_grad()
    def replay(self, rollout: Rollout) -> Replayed:
        """Evaluate the whole rollout with the networks that collected it, each called once on all of it."""
        obs = self._normalized(self.views(rollout["obs"]))
        final_obs = self._normalized(self.views(rollout["final_obs"]))
        network = self.network
        forward = network.over_rollout if network.gru is None else network.over_rollout_recurrent
        return Replayed(obs, *forward(obs, final_obs, rollout))

    @torch.no_grad()
    def samples(self, rollout: Rollout, replayed: Replayed, ranks: Ranks) -> tuple[Samples, Values]:
        """Join each transition with its advantage and the target of its value (Schulman 2016).

        Returns:
            Samples (B, ...), which are the T * N transitions, or chunks (B, L, ...) of a recurrent policy;
            and values to log.

        Raises:
            ValueError: ``chunk_length`` does not divide the steps of the rollout.
        """
        rows, output, settings = self.views.rows(rollout), replayed.output, self.settings
        next_output = output[1:].clone(memory_format=torch.contiguous_format)
        next_output.flatten(0, 1)[rollout["final_index"]] = replayed.final_output
        advantage_TN, target_TN, explained = estimate(
            rows, output[:-1], next_output, settings.gamma, settings.gae_lambda, self.return_scale,
            self.value_norm, ranks.sum,
        )  # fmt: skip
        weight_TN = None if rows.acted is None else _weight(rows.acted, replayed.entropy)
        logged: Values = {
            metrics.ENTROPY: losses.weighted_mean(replayed.entropy, weight_TN),
            metrics.EXPLAINED_VARIANCE: explained,  # not finite, and then not logged, when returns are equal
        }
        samples: Samples = {
            "obs": map_nested(lambda leaf: leaf[:-1], replayed.obs),
            "action": rollout["action"],
            "log_prob": replayed.log_prob,
            "advantage": advantage_TN,
            "return": target_TN,
        }
        if settings.clip_value is not None:
            samples["value"] = output[:-1]
        if self.views.may_leave or self.network.gru is not None:
            samples["weight"] = _weight(rows.acted, target_TN)
        if settings.symmetry_augmentation:
            spec = self.views.spec
            image = self.views(reflect(rollout["obs"], cast("Any", spec.mirror)["observation"]))
            image = map_nested(lambda leaf: leaf[:-1], self._normalized(image))
            samples = with_mirror_images(samples, image, spec)
        if self.network.gru is None:
            return map_nested(lambda leaf: leaf.flatten(0, 1), samples), logged  # (T*N, ...)
        samples["reset"] = rollout["reset"][:-1]
        length, steps = settings.chunk_length, len(target_TN)
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
        """Take the gradient steps of all epochs, over shuffled minibatches.

        Args:
            samples: What :meth:`samples` returned.
            valid: Bool (T, N), False where no transition took place; None when all steps are transitions.
            optimizer: The optimizer of :attr:`network`.
            ranks: The processes over which advantages are normalised, and KL is judged.
            batch_size: Transitions per minibatch, those of each agent counted.
            factor: Multiplies learning rate and ``clip``.

        Returns:
            Number of gradient steps, and values to log.
        """
        settings, group = self.settings, optimizer.param_groups[0]
        clip = settings.clip * factor
        if settings.adaptive_kl is None:  # else it is kept where checkpoints of optimizers have it
            group["lr"] = settings.learning_rate * factor
        # a tensor where the loss is compiled: another number would compile it again
        bound = torch.tensor(clip, device=samples["log_prob"].device) if optimizer.is_compiled else clip
        steps: list[StepLog] = []
        log_ratio_B, weight_B, epochs_done = samples["log_prob"].new_zeros(0), None, 0
        for minibatches in self.minibatches(samples, valid, ranks, batch_size):
            epoch = [optimizer.minimize_fn(self.loss, minibatch, bound) for minibatch in minibatches]
            steps += epoch
            epochs_done += 1
            log_ratio_B = torch.cat([step.log_ratio.flatten() for step in epoch])
            if "weight" in minibatches[0]:
                weight_B = torch.cat([minibatch["weight"].flatten() for minibatch in minibatches])
            if settings.target_kl is not None or settings.adaptive_kl is not None:
                kl = ranks.mean(losses.approximate_kl(log_ratio_B, weight_B)).item()
                if settings.adaptive_kl is not None:
                    group["lr"] = losses.adapted_rate(group["lr"], kl, settings.adaptive_kl)
                if settings.target_kl is not None and kl > 1.5 * settings.target_kl:
                    break
        return len(steps), {
            metrics.LOSS_POLICY: torch.stack([step.policy for step in steps]).mean(),
            metrics.LOSS_VALUE: torch.stack([step.value for step in steps]).mean(),
            metrics.LOSS_TOTAL: torch.stack([step.total for step in steps]).mean(),
            metrics.KL: losses.approximate_kl(log_ratio_B, weight_B),
            metrics.CLIP_FRACTION: losses.clip_fraction(log_ratio_B, clip, weight_B),
            metrics.EPOCHS: float(epochs_done),
            metrics.LEARNING_RATE: group["lr"],
        }

    def minibatches(
        self, samples: Samples, valid: Tensor | None, ranks: Ranks, batch_size: int
    ) -> Iterator[list[Samples]]:
        """Yield, for each epoch, shuffled minibatches of constant size with normalised advantages."""
        is_recurrent, settings = self.network.gru is not None, self.settings
        per_sample = (self.views.num_agents or 1) * (settings.chunk_length if is_recurrent else 1)
        per_batch = samples_per_minibatch(batch_size, per_sample, samples["log_prob"])
        if valid is not None and settings.symmetry_augmentation:
            valid = torch.cat([valid, valid], 1)
        # chunks of a recurrent policy keep steps that are no transitions, with weight 0
        usable = None if valid is None or is_recurrent else valid.flatten().nonzero().squeeze(-1)
        epochs = shuffled_epochs(samples, usable, per_batch, settings.update_epochs)
        return normalized_epochs(epochs, ranks.sum) if settings.normalize_advantage else epochs

    def loss(
        self, parameters: dict[str, Tensor] | None, minibatch: Samples, clip: float | Tensor
    ) -> tuple[Tensor, StepLog]:
        """Compute L = policy loss + c1 * value loss - c2 * entropy (Schulman 2017, eq. 9), and a ``StepLog``.

        Args:
            parameters: Parameters to use in place of the network's own; None uses its own.
            minibatch: Samples (B, ...).
            clip: Half width of the trusted interval of the probability ratio.
        """
        settings = self.settings
        inputs = (minibatch, settings.entropy_coef != 0)
        if parameters is None:
            log_prob_B, entropy_B, value_B = self.network(*inputs)
        else:
            log_prob_B, entropy_B, value_B = torch.func.functional_call(self.network, parameters, inputs)
        weight_B, old_log_prob_B = minibatch.get("weight"), minibatch["log_prob"]
        advantage_B, target_B = minibatch["advantage"], minibatch["return"]
        policy_loss = losses.clipped_surrogate(log_prob_B, old_log_prob_B, advantage_B, clip, weight_B)
        if settings.clip_value is None:
            error = losses.value_loss(value_B, target_B, weight_B, settings.huber_delta)
        else:
            error = losses.clipped_value_loss(
                value_B, minibatch["value"], target_B, settings.clip_value, weight_B, settings.huber_delta
            )
        total = torch.add(policy_loss, error, alpha=settings.value_coef)
        if settings.entropy_coef:
            total = torch.sub(total, losses.weighted_mean(entropy_B, weight_B), alpha=settings.entropy_coef)
        log_ratio_B = (log_prob_B - old_log_prob_B).detach()
        return total, StepLog(policy_loss.detach(), error.detach(), total.detach(), log_ratio_B)

    def observe(self, rollout: Rollout, ranks: Ranks) -> None:
        """Add what was seen to the statistics of observations; a global state counts once, not per agent."""
        norm = self.observation_norm
        if norm is None:
            return
        seen = map_nested(lambda leaf: leaf[:-1], self.views(rollout["obs"]))
        own = {"actor": seen["actor"]} if self.network.is_central else seen
        norm.update(own, valid=self.views.acted(rollout), sum_over_ranks=ranks.sum)
        if self.network.is_central:
            norm.update({"critic": seen["critic"]}, valid=rollout["valid"], sum_over_ranks=ranks.sum)

    def local_state(self) -> dict[str, dict[str, Tensor]]:
        """Return the state that differs between ranks: the running returns of this rank's environments."""
        return {} if self.return_scale is None else {"return_scale": self.return_scale.get_state()}

    def load_local_state(self, state: dict[str, dict[str, Tensor]]) -> None:
        """Continue from what :meth:`local_state` returned."""
        if self.return_scale is not None:
            self.return_scale.set_state(state["return_scale"])


def _weight(acted_TN: Tensor | None, like_TN: Tensor) -> Tensor:
    return torch.ones_like(like_TN) if acted_TN is None else acted_TN.to(like_TN.dtype)
