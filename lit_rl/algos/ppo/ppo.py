"""Proximal policy optimization as a LightningModule (Schulman 2017, arXiv:1707.06347).

One batch is one rollout ``[T, N, ...]``; ``training_step`` does all epochs and minibatches of its update.
With several agents it is MAPPO (``central_critic``) or IPPO (Yu 2022, arXiv:2103.01955). Axes: T time,
N environments, A agents, B minibatch, C chunks of L steps (recurrent), H hidden units.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.algos.actor_critic import ActorCritic
from lit_rl.algos.advantages import estimate
from lit_rl.algos.compiled_gradient import compile_gradient
from lit_rl.algos.gradient_steps import linear_schedule
from lit_rl.algos.module import RLModule
from lit_rl.algos.multi_agent import AgentIds, Views
from lit_rl.algos.ppo_arguments import check_arguments
from lit_rl.algos.samples import Samples, cut_chunks, normalized_epochs, rows_per_minibatch, shuffled_epochs
from lit_rl.compute import MatmulPrecision
from lit_rl.losses import (
    approximate_kl,
    clip_fraction,
    clipped_surrogate,
    clipped_value_loss,
    weighted_mean,
)
from lit_rl.losses import value_loss as mean_value_loss
from lit_rl.nested import map_nested
from lit_rl.nets import Activation, EncoderFactory, FlatAdam, FlatParameters, zero_where
from lit_rl.normalize import ObservationNorm, ReturnScale, ValueNorm
from lit_rl.types import Decision, EnvSpec, Nested, Rollout

LOG_PROB = "log_prob"
"""Key of ``extras`` for the log-probability of an action when it was chosen, ``(N,)`` or ``(N, A)``."""

Logged: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Policy loss, value loss, log of the probability ratio ``(B,)``, and the loss that was back-propagated."""


class PPO(RLModule):
    """PPO for discrete, multi-discrete and continuous actions, with masks, Dict observations, agents, memory.

    Several agents share one policy; those that left an episode early count in nothing that is learned.

    Logs: ``loss/policy``, ``loss/value``, ``loss/total``, ``policy/entropy``, ``policy/kl``,
    ``policy/clip_fraction``, ``policy/learning_rate``, ``value/explained_variance``, ``update/epochs`` and
    what ``RLModule`` logs.

    Args:
        hidden: Widths of the hidden layers of actor and critic (each has its own network).
        activation: Between hidden layers. ``relu`` is faster, ``tanh`` the choice of the published results.
        learning_rate: Of Adam. More learns faster until updates overshoot (watch ``policy/kl`` above 0.03).
        anneal_env_steps: Learning rate and ``clip`` go linearly to 0 over so many env steps; None keeps them.
        batch_size: Transitions per minibatch and rank, those of each agent counted; must divide the rollout.
            Smaller gives more, noisier steps.
        update_epochs: Passes over each rollout. More uses samples better, and drifts further from the policy
            that collected them.
        gamma: Discount per step, in (0, 1]. More looks further ahead, with more variance.
        gae_lambda: Of generalised advantage estimation, in [0, 1]: 1 is unbiased, less trades variance for
            bias.
        clip: Half width of the trusted interval of the probability ratio. Less is more cautious.
        clip_value: Half width of the trusted interval of the value; None (recommended) does not clip.
        value_coef: Weight of the value loss.
        huber_delta: Value errors beyond this count linearly, not squared (10 in MAPPO); None squares all.
        value_norm: The critic predicts returns normalised by their running mean and deviation, and
            ``clip_value`` and ``huber_delta`` are in these units.
        entropy_coef: Weight of the entropy bonus. More explores longer.
        max_grad_norm: Largest norm of the gradient over all parameters; None does not clip.
        target_kl: Stop the epochs of an update once KL exceeds 1.5 times this; decided together by all ranks.
        normalize_advantage: Per minibatch, over all ranks.
        normalize_observation: By running mean and standard deviation, frozen within a rollout and its update.
        normalize_return: Divide rewards by the running standard deviation of the discounted return (Engstrom
            2020).
        central_critic: The critic sees the global state of an environment of several agents: MAPPO. False
            is IPPO.
        agent_ids: Append to what the shared networks see which agent it is, as a one-hot vector. With
            ``actor`` a central critic keeps to one value of a state for all agents, which costs less.
        encoder: Builds the network in front of actor and critic, ``class_path`` in YAML. None flattens
            observations.
        critic_encoder: The same for what a central critic sees. None flattens the state.
        share_encoder: One encoder for both instead of one each.
        gru: Hidden units of a recurrent core in actor and critic; None is a policy without memory.
        chunk_length: Steps of backpropagation through time; must divide the rollout's steps.
        compile: Compile the gradient of a minibatch: slow at the start (with a GRU, whose chunk is
            unrolled, very slow), then faster updates. For long runs.
        spec: See ``RLModule``.
        threads: See ``RLModule``.
        matmul_precision: See ``RLModule``.

    Raises:
        ValueError: An argument is outside its range, or two contradict each other.
    """

    def __init__(
        self,
        hidden: tuple[int, ...] = (64, 64),
        activation: Activation = "tanh",
        learning_rate: float = 3e-4,
        anneal_env_steps: int | None = None,
        batch_size: int = 64,
        update_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip: float = 0.2,
        clip_value: float | None = None,
        value_coef: float = 0.5,
        entropy_coef: float = 0.0,
        huber_delta: float | None = None,
        value_norm: bool = False,
        max_grad_norm: float | None = 0.5,
        target_kl: float | None = None,
        normalize_advantage: bool = True,
        normalize_observation: bool = False,
        normalize_return: bool = False,
        central_critic: bool = False,
        agent_ids: AgentIds = False,
        encoder: EncoderFactory | None = None,
        critic_encoder: EncoderFactory | None = None,
        share_encoder: bool = False,
        gru: int | None = None,
        chunk_length: int = 16,
        compile: bool = False,
        spec: EnvSpec | None = None,
        threads: int | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        super().__init__(spec, threads, matmul_precision)
        self.save_hyperparameters(ignore=["spec"], logger=False)
        self.hidden = list(hidden)
        self.activation: Activation = activation
        self.learning_rate, self.anneal_env_steps = learning_rate, anneal_env_steps
        self.batch_size, self.update_epochs = batch_size, update_epochs
        self.gamma, self.gae_lambda = gamma, gae_lambda
        self.clip, self.clip_value = clip, clip_value
        self.value_coef, self.entropy_coef = value_coef, entropy_coef
        self.huber_delta, self.normalize_value = huber_delta, value_norm
        self.max_grad_norm, self.target_kl = max_grad_norm, target_kl
        self.normalize_advantage = normalize_advantage
        self.normalize_observation, self.normalize_return = normalize_observation, normalize_return
        self.central_critic = central_critic
        self.agent_ids: AgentIds = agent_ids
        self.encoder, self.critic_encoder, self.share_encoder = encoder, critic_encoder, share_encoder
        self.gru, self.chunk_length = gru, chunk_length
        self.compile_update = compile
        self.context = (0, 0)  # see ActorCritic
        self.records_log_prob = False
        check_arguments(self)

    # Acting

    def build(self, spec: EnvSpec) -> None:
        """Networks and normalizers for ``spec``."""
        self.views = self.make_views(spec)
        self.network = ActorCritic(
            self.views, self.hidden, self.activation, self.encoder, self.share_encoder, self.gru,
            self.critic_encoder, self.context,
        )  # fmt: skip
        self.observation_norm = (
            ObservationNorm(self.views.observation) if self.normalize_observation else None
        )
        self.return_scale = ReturnScale(self.gamma) if self.normalize_return else None
        self.value_norm = ValueNorm() if self.normalize_value else None

    @property
    def rows(self) -> int:
        """Of a minibatch."""
        return self.batch_size

    def make_views(self, spec: EnvSpec) -> Views:
        """What actor and critic see."""
        return Views(spec, self.agent_ids, self.central_critic)

    def initial_carry(self, num_envs: int) -> Nested:
        """Zero hidden states ``(N, H)`` of actor and critic, of each agent ``(N, A, H)``; ``{}`` without GRU.

        That of a critic whose value the agents share is ``(N, H)``.
        """
        if self.gru is None:
            return {}
        agents = [self.views.num_agents] if self.views.num_agents else []
        actor = torch.zeros(num_envs, *agents, self.gru, device=self.device)
        return {"actor": actor, "critic": torch.zeros_like(actor[:, 0] if self.views.shared_value else actor)}

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Sample (or take the mode of) the policy; a recurrent one records its hidden states before."""
        seen = self.views(obs, with_critic=self.gru is not None)
        if self.observation_norm is not None:
            seen = self.observation_norm(seen)
        if self.gru is None:
            action, log_prob = self.network.act(seen, greedy, self.records_log_prob)
            after, extras = carry, {}
        else:
            kept = map_nested(lambda hidden: zero_where(reset, hidden), carry)
            action, log_prob, after = self.network.act_recurrent(
                seen, kept, reset, greedy, self.records_log_prob
            )
            extras = {"hidden_actor": kept["actor"], "hidden_critic": kept["critic"]}
        return Decision(action, after, extras if log_prob is None else extras | {LOG_PROB: log_prob})

    # Learning

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Fused Adam over one flat parameter, epsilon 1e-5 as in the reference implementation."""
        self.flat = FlatParameters(self.network)
        self._minibatch_gradient = None
        if self.compile_update:  # over several ranks the mean gradient is clipped, outside
            clip_inside = self.max_grad_norm if self._world_size == 1 else None
            self._minibatch_gradient = compile_gradient(self._loss, clip_inside, self.device)
        return FlatAdam(self.flat, self.learning_rate, epsilon=1e-5)

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """One synchronous update: advantages, then all epochs and minibatches."""
        start = time.perf_counter()
        self.begin_batch(rollout["policy_version"])
        (optimizer,) = self.raw_optimizers()
        values = self.learn(rollout, optimizer, linear_schedule(self.env_steps, self.anneal_env_steps))
        self.finish_batch(values, rollout, rollout["terminated"].numel(), start)

    def learn(
        self, rollout: Rollout, optimizer: torch.optim.Optimizer, factor: float = 1.0
    ) -> dict[str, Tensor | float]:
        """Advantages, then all epochs; returns the values to log.

        Args:
            rollout: Of the current policy.
            optimizer: What :meth:`configure_optimizers` returned.
            factor: Of learning rate and ``clip``.
        """
        with torch.no_grad():
            samples, values = self._samples(rollout)
        values |= self._update(
            optimizer, samples, rollout["valid"], self.learning_rate * factor, self.clip * factor
        )
        values[metrics.LEARNING_RATE] = self.learning_rate * factor
        self._update_observation_norm(rollout)
        return values

    def seen(self, rollout: Rollout) -> tuple[Nested, Nested]:
        """What actor and critic see of the rollout's ``obs`` and ``final_obs``."""
        return self.views(rollout["obs"]), self.views(rollout["final_obs"])

    def before_update(self, log_prob: Tensor, output: Tensor, rollout: Rollout) -> dict[str, Tensor | float]:
        """For subclasses: look at the replayed log-probabilities (T, N[, A]) and outputs of the critic."""
        return {}

    def _samples(self, rollout: Rollout) -> tuple[Samples, dict[str, Tensor | float]]:
        """Values, old log-probabilities and advantages of a rollout, from one batched forward each."""
        rows = self.views.rows(rollout)
        norm = self.observation_norm or (lambda obs: obs)
        obs, final_obs = map(norm, self.seen(rollout))
        forward = self.network.over_rollout if self.gru is None else self.network.over_rollout_recurrent
        log_prob, entropy, output, final_output = forward(obs, final_obs, rollout)  # output: (T+1, N[, A])
        logged = self.before_update(log_prob, output, rollout)
        next_output = output[1:].clone(memory_format=torch.contiguous_format)
        next_output.flatten(0, 1)[rollout["final_index"]] = final_output
        advantage, target, explained = estimate(
            rows, output[:-1], next_output, self.gamma, self.gae_lambda, self.return_scale, self.value_norm,
            self.sum_over_ranks,
        )  # fmt: skip
        weight = None if rows.counts is None else _weight(rows.counts, entropy)
        logged |= {
            metrics.ENTROPY: weighted_mean(entropy, weight),
            metrics.EXPLAINED_VARIANCE: explained,  # not finite, and then not logged, when returns are equal
        }
        samples = {
            "obs": map_nested(lambda leaf: leaf[:-1], obs),
            "action": rollout["action"],
            "log_prob": log_prob,
            "advantage": advantage,
            "return": target,
        }
        if self.clip_value is not None:
            samples["value"] = output[:-1]
        if self.views.may_leave or self.gru is not None:
            samples["weight"] = _weight(rows.counts, target)
        if self.gru is None:
            return map_nested(lambda leaf: leaf.flatten(0, 1), samples), logged  # (T*N, ...)
        samples["reset"] = rollout["reset"][:-1]
        length, steps = self.chunk_length, len(target)
        if steps % length or self.batch_size % length:
            raise ValueError(
                f"PPO: chunk_length = {length} must divide rollout_steps = {steps} and "
                f"batch_size = {self.batch_size}"
            )
        return cut_chunks(samples, rollout["extras"], length), logged

    def _update_observation_norm(self, rollout: Rollout) -> None:
        """Add what the agents saw; states are one per environment."""
        norm, total = self.observation_norm, self.sum_over_ranks
        if norm is None:
            return
        seen = map_nested(lambda leaf: leaf[:-1], self.seen(rollout)[0])
        own = {"actor": seen["actor"]} if self.central_critic else seen
        norm.update(own, valid=self.views.counts(rollout), sum_over_ranks=total)
        if self.central_critic:
            norm.update({"critic": seen["critic"]}, valid=rollout["valid"], sum_over_ranks=total)

    def _update(
        self,
        optimizer: torch.optim.Optimizer,
        samples: Samples,
        valid: Tensor | None,
        learning_rate: float,
        clip: float,
    ) -> dict[str, Tensor | float]:
        """All epochs; returns the values to log."""
        optimizer.param_groups[0]["lr"] = learning_rate
        self.flat.attach()
        # compiled it is a tensor: annealing must not recompile
        bound = torch.tensor(clip, device=self.device) if self.compile_update else clip
        logged, epochs_done = [], 0
        log_ratio, weight = torch.zeros(0, device=self.device), None
        for minibatches in self._minibatches(samples, valid):
            last_epoch = [self._gradient_step(optimizer, minibatch, bound) for minibatch in minibatches]
            logged += last_epoch
            epochs_done += 1
            log_ratio = torch.cat([step[2].flatten() for step in last_epoch])
            if "weight" in minibatches[0]:
                weight = torch.cat([minibatch["weight"].flatten() for minibatch in minibatches])
            if self.target_kl is not None and self._exceeds(
                self.target_kl, approximate_kl(log_ratio, weight)
            ):
                break
        self.updates += len(logged)
        return {
            metrics.LOSS_POLICY: torch.stack([step[0] for step in logged]).mean(),
            metrics.LOSS_VALUE: torch.stack([step[1] for step in logged]).mean(),
            metrics.LOSS_TOTAL: torch.stack([step[3] for step in logged]).mean(),
            metrics.KL: approximate_kl(log_ratio, weight),
            metrics.CLIP_FRACTION: clip_fraction(log_ratio, clip, weight),
            metrics.EPOCHS: float(epochs_done),
        }

    def _exceeds(self, target_kl: float, kl: Tensor) -> bool:
        return self.mean_over_ranks(kl).item() > 1.5 * target_kl

    def _minibatches(self, samples: Samples, valid: Tensor | None) -> Iterator[list[Samples]]:
        """Per epoch, minibatches of constant size, shuffled, with normalised advantages."""
        per_row = (self.views.num_agents or 1) * (self.chunk_length if self.gru else 1)
        per_batch = rows_per_minibatch(self.batch_size, per_row, samples["log_prob"])
        # recurrent chunks keep rows that are no transitions, with weight 0
        usable = None if valid is None or self.gru is not None else valid.flatten().nonzero().squeeze(-1)
        epochs = shuffled_epochs(samples, usable, per_batch, self.update_epochs)
        return normalized_epochs(epochs, self.sum_over_ranks) if self.normalize_advantage else epochs

    def _gradient_step(
        self, optimizer: torch.optim.Optimizer, minibatch: Samples, clip: float | Tensor
    ) -> Logged:
        if self._minibatch_gradient is None:
            total, logged = self._loss(None, minibatch, clip)
            self.optimize(optimizer, total, self.flat, self.max_grad_norm)
            return logged
        grad, logged = self._minibatch_gradient(self.flat.tensor.detach(), minibatch, clip)
        self.flat.tensor.grad = grad
        clip_outside = None if self._world_size == 1 else self.max_grad_norm
        self.step(optimizer, grad, clip_outside)
        return logged

    def _loss(self, flat: Tensor | None, minibatch: Samples, clip: float | Tensor) -> tuple[Tensor, Logged]:
        """Loss of a minibatch (Schulman 2017, eq. 9) and what is logged; ``flat`` replaces parameters."""
        if flat is None:
            log_prob, entropy, value = self.network(minibatch, self.entropy_coef != 0)
        else:
            parameters, inputs = self.flat.unflatten(flat), (minibatch, self.entropy_coef != 0)
            log_prob, entropy, value = torch.func.functional_call(self.network, parameters, inputs)
        weight = minibatch.get("weight")
        old_log_prob, target = minibatch["log_prob"], minibatch["return"]
        policy_loss = clipped_surrogate(log_prob, old_log_prob, minibatch["advantage"], clip, weight)
        if self.clip_value is None:
            value_loss = mean_value_loss(value, target, weight, self.huber_delta)
        else:
            value_loss = clipped_value_loss(
                value, minibatch["value"], target, self.clip_value, weight, self.huber_delta
            )
        total = torch.add(policy_loss, value_loss, alpha=self.value_coef)
        if self.entropy_coef:
            total = torch.sub(total, weighted_mean(entropy, weight), alpha=self.entropy_coef)
        log_ratio = (log_prob - old_log_prob).detach()
        return total, (policy_loss.detach(), value_loss.detach(), log_ratio, total.detach())

    def local_state(self) -> dict[str, Any]:
        """Running returns of this rank's environments."""
        return {} if self.return_scale is None else {"return_scale": self.return_scale.get_state()}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Inverse of :meth:`local_state`."""
        if self.return_scale is not None:
            self.return_scale.set_state(state["return_scale"])


def _weight(valid: Tensor | None, like: Tensor) -> Tensor:
    return torch.ones_like(like) if valid is None else valid.to(like.dtype)
