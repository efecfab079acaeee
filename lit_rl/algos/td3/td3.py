"""Twin delayed deep deterministic policy gradient as a LightningModule (Fujimoto 2018, arXiv:1802.09477).

One batch is a block of M minibatches; ``training_step`` does M updates of the critics, and every
``policy_delay``-th of them moves policy and targets as well. Axes: M minibatches, B samples (transitions),
C critics, U action dimensions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.algos.action_box import ActionBox
from lit_rl.algos.actor import Actor
from lit_rl.algos.critics import Critics, target_of
from lit_rl.algos.minibatches import Minibatch, minibatches
from lit_rl.algos.module import MatmulPrecision, RLModule
from lit_rl.algos.portable import Portable, portable
from lit_rl.arguments import Count, NonNegative, Positive, Share, SmallCount, Width, check_arguments
from lit_rl.flat import FlatParameters, Parameters, call_with
from lit_rl.nets import EncoderFactory
from lit_rl.q_losses import (
    clipped_double_q_target,
    critic_loss,
    deterministic_policy_loss,
    smoothed_action,
)
from lit_rl.types import Decision, EnvSpec, Nested, ReplayBatch


class TD3(RLModule):
    """TD3 for bounded continuous actions: a deterministic policy that moves less often than its twin critics.

    All noise is in units of actions scaled to [-1, 1].

    Logs: ``loss/critic``, ``value/q_mean``, ``loss/policy`` (in batches that move the policy) and what
    ``RLModule`` logs.

    Args:
        hidden: Widths of the hidden layers of actor and critics.
        learning_rate: Step size of both Adams. More learns faster until the critics diverge (watch
            ``value/q_mean``).
        gamma: Discount per step. More looks further ahead and makes the critics harder to learn.
        tau: Share of actor and critics blended into their targets whenever the policy moves. Less is
            slower and stabler.
        policy_delay: Updates of the critics for each of policy and targets. More lets the critics settle
            before the policy follows them.
        target_policy_noise: Standard deviation of the noise on the action of the target actor. More makes
            the critics smoother over actions, and blunter.
        target_noise_clip: Largest absolute value of that noise.
        exploration_noise: Standard deviation of the noise on actions that are not greedy. More explores
            more.
        num_critics: Number of critics C, of which targets use the minimum. More is more pessimistic, and
            slower.
        max_grad_norm: Largest norm of each gradient; None (as published) does not clip.
        encoder: Network in front of actor and critics (one each), given by its ``class_path`` in YAML. None
            flattens observations.
        compile: Compile both gradients. The start is slow, updates are faster; it pays off in long runs.
        spec: Observation and action of the environment; None takes those of the data module.
        threads: OpenMP threads while fitting; ``auto`` decides by the size of the networks and idle cores.
        matmul_precision: Route of float32 matrix products; ``auto`` measures it for wide networks.

    Raises:
        ValueError: An argument is outside its range, or the actions are not continuous with finite bounds.
    """

    looks_at_state = False

    def __init__(
        self,
        hidden: tuple[Width, ...] = (256, 256),
        learning_rate: Share = 3e-4,
        gamma: Share = 0.99,
        tau: Share = 0.005,
        policy_delay: Count = 2,
        target_policy_noise: NonNegative = 0.2,
        target_noise_clip: NonNegative = 0.5,
        exploration_noise: NonNegative = 0.1,
        num_critics: SmallCount = 2,
        max_grad_norm: Positive | None = None,
        encoder: EncoderFactory | None = None,
        compile: bool = False,
        spec: EnvSpec | None = None,
        threads: SmallCount | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        check_arguments(TD3, locals())
        super().__init__(spec, threads, matmul_precision, gamma)
        self.save_hyperparameters(ignore=["spec"])
        self.hidden, self.learning_rate, self.tau = list(hidden), learning_rate, tau
        self.policy_delay, self.exploration_noise = policy_delay, exploration_noise
        self.target_policy_noise, self.target_noise_clip = target_policy_noise, target_noise_clip
        self.num_critics, self.max_grad_norm = num_critics, max_grad_norm
        self.encoder, self.compile_update = encoder, compile

    # Acting

    def build(self, spec: EnvSpec) -> None:
        """Create actor, critics and their targets for ``spec``."""
        self.box = ActionBox(spec, "TD3")
        self.actor = Actor(spec, self.hidden, self.encoder, spec.action.size, torch.tanh)
        self.critics = Critics(spec, self.hidden, self.encoder, self.num_critics)
        self.target_actor, self.target_critics = target_of(self.actor), target_of(self.critics)

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Take the action of the actor, with noise unless ``greedy``, in the units of the environment."""
        action = self.actor.fast(obs)
        if not greedy:
            noise = torch.randn_like(action)
            action = torch.add(action, noise, alpha=self.exploration_noise).clamp_(-1.0, 1.0)
        return Decision(self.box.to_env(self.box.existing(action, obs)), carry, {})

    def portable_policy(self) -> Portable:
        """Return the policy as plain numbers, for actors elsewhere.

        Raises:
            ValueError: The learner has an encoder, which only torch can evaluate.
        """
        return portable("TD3", self.actor, self.box, "squashed", noise=self.exploration_noise)

    # Learning

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Make one Adam each for actor and critics."""
        rate, largest, compile = self.learning_rate, self.max_grad_norm, self.compile_update
        actor = self.adam(self.actor, rate, max_grad_norm=largest, compile=compile)
        critics = self.adam(self.critics, rate, max_grad_norm=largest, compile=compile)
        self._flat_actor, self._flat_critics = actor.flat, critics.flat
        # targets as flat tensors with the layout of what they follow: blending them is one operation
        self._flat_target_actor = FlatParameters(self.target_actor, actor.flat.names)
        self._flat_target_critics = FlatParameters(self.target_critics, critics.flat.names)
        return [actor, critics]

    def training_step(self, batch: ReplayBatch, batch_idx: int) -> None:
        """Make M updates, one after the other (Fujimoto 2018, algorithm 1)."""
        self.begin_batch(batch, is_on_policy=False)
        actor_optimizer, critic_optimizer = self.raw_optimizers()
        num_updates, batch_size = batch["reward"].shape
        shape = (num_updates, batch_size, self.box.scale.numel())
        noise = torch.randn(shape, device=self.device, dtype=self.box.scale.dtype)
        targets = (self._flat_target_actor, self._flat_target_critics)
        of_critics, of_actor = [], []
        for m, minibatch in enumerate(minibatches(batch, self.box)):
            of_critics.append(
                critic_optimizer.minimize_fn(self._critic_loss, minibatch, noise[m], fixed=targets)
            )
            if (self.updates + m + 1) % self.policy_delay == 0:  # counted on over batches, and when resumed
                of_actor.append(
                    actor_optimizer.minimize_fn(self._actor_loss, minibatch, fixed=(self._flat_critics,))
                )
                self._flat_target_actor.blend_(self._flat_actor, self.tau)
                self._flat_target_critics.blend_(self._flat_critics, self.tau)
        self.updates += num_updates
        loss_of_critics, q_mean = torch.stack(of_critics).mean(0)
        values: dict[str, Tensor | float] = {metrics.LOSS_CRITIC: loss_of_critics, metrics.Q_MEAN: q_mean}
        if of_actor:
            values[metrics.LOSS_POLICY] = torch.stack(of_actor).mean()
        self.finish_batch(values, batch)

    def _critic_loss(
        self,
        parameters: Parameters | None,
        minibatch: Minibatch,
        noise_BU: Tensor,
        target_actor: Parameters | None,
        target_critics: Parameters | None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of the critics (Fujimoto 2018, algorithm 1), and, to log, it and the mean Q."""
        next_obs = minibatch["next_obs"]
        with torch.no_grad():
            next_action = call_with(target_actor, self.target_actor, next_obs)
            smoothed = smoothed_action(
                next_action, noise_BU, self.target_policy_noise, self.target_noise_clip
            )
            next_q_CB = call_with(target_critics, self.target_critics, next_obs, smoothed)
            target_B = clipped_double_q_target(minibatch["reward"], minibatch["discount"], next_q_CB)
        q_CB = call_with(parameters, self.critics, minibatch["obs"], minibatch["action"])
        loss = critic_loss(q_CB, target_B)
        return loss, torch.stack([loss.detach(), q_CB.detach().mean()])

    def _actor_loss(
        self, parameters: Parameters | None, minibatch: Minibatch, critics: Parameters | None
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of the policy (Fujimoto 2018, algorithm 1), and, to log, it once more."""
        action_BU = call_with(parameters, self.actor, minibatch["obs"])
        loss = deterministic_policy_loss(call_with(critics, self.critics, minibatch["obs"], action_BU))
        return loss, loss.detach()
