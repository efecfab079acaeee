"""Soft actor-critic as a LightningModule (Haarnoja 2018, arXiv:1812.05905).

One batch is a block of M minibatches; ``training_step`` does M updates of critics, policy, temperature and
targets. Axes: M minibatches, B samples (transitions), C critics, U action dimensions, P parameters.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from lit_rl import metrics
from lit_rl.algos.action_box import ActionBox, own_bounds
from lit_rl.algos.actor import Actor
from lit_rl.algos.critics import Critics, target_of
from lit_rl.algos.minibatches import Minibatch, minibatches
from lit_rl.algos.module import MatmulPrecision, RLModule
from lit_rl.algos.multi_agent import Views
from lit_rl.algos.portable import Portable, portable
from lit_rl.algos.sac.critic_subset import draw_subsets
from lit_rl.algos.sac.tanh_normal import TanhNormal, begin_with_std, mean_and_log_std
from lit_rl.arguments import Count, Finite, Positive, Range, Share, SmallCount, Width, check_arguments
from lit_rl.flat import FlatParameters, Parameters, call_with
from lit_rl.nets import EncoderFactory
from lit_rl.normalize import ObservationNorm
from lit_rl.q_losses import critic_loss, soft_policy_loss, soft_target, temperature_gradient
from lit_rl.types import CRITIC, JOINT_MASK, Decision, EnvSpec, Nested, ReplayBatch


class SAC(RLModule):
    """SAC for bounded continuous actions: twin (or more) critics in one batched product, learned temperature.

    Logs: ``loss/critic``, ``loss/policy``, ``loss/temperature``, ``policy/entropy``, ``policy/temperature``,
    ``value/q_mean`` and what ``RLModule`` logs.

    Args:
        hidden: Widths of the hidden layers of actor and critics.
        learning_rate: Step size of all three Adams. More learns faster until the critics diverge (watch
            ``value/q_mean``).
        gamma: Discount per step. More looks further ahead and makes the critics harder to learn.
        tau: Share of the critics blended into their targets at each update. Less is slower and
            stabler.
        initial_temperature: Weight alpha of the entropy at the start. More explores longer.
        learn_temperature: Adapt alpha so that the entropy stays at ``target_entropy``.
        target_entropy: Entropy in nats that the policy should keep; ``auto`` is minus the number of action
            dimensions. More keeps the policy more random. For robots of several sizes (``joint_mask``) it is
            the mean entropy of a joint, of which ``auto`` is -1.
        num_critics: Number of critics C. More is slower; with the minimum of all it is more pessimistic.
        target_subset: Number of critics whose minimum makes a target, drawn anew for each update (REDQ, Chen
            2021, arXiv:2101.05982, has 2 of 10). Fewer is less pessimistic. None takes all.
        policy_q: Whether the policy follows the minimum of all critics (``min``) or their mean (``mean``, as
            in REDQ), which is less pessimistic.
        entropy_backup: Whether targets count the entropy of what follows, as published; without it the
            policy is paid for its entropy in the present step only (RLPD, Ball 2023, arXiv:2302.02948).
        critic_layer_norm: Normalise each hidden layer of the critics, which keeps values bounded on actions
            that were never tried, at a tenth more compute.
        critic_dropout: Share of the units of each hidden layer that critics and targets leave out at random
            whenever they are asked in an update, before ``critic_layer_norm`` (DroQ, Hiraoka 2022,
            arXiv:2110.02034, has 0.01). More makes them less sure of themselves, and slower to learn.
        critic_actor_ratio: Updates of critics and targets for each one of actor and temperature. More follows
            a better informed critic; updates count those of the critics, as ``updates_per_step`` does. The
            actor takes the newest of these minibatches.
        initial_std: Deviation of the normal before tanh at the start; None leaves it to the initial weights,
            about 1. Robots start gently with 0.15 to 0.5.
        normalize_observation: Normalise observations by running mean and deviation, in which each env step
            counts once, warm-up included. The replay ring keeps observations as they were.
        central_critic: The critics see the part ``critic`` of a Dict observation instead of the rest, such as
            what only a simulator knows; the actor sees the rest. More information makes better critics.
        action_low: Lowest action of each entry, in the units of the environment, such as a limit of a joint;
            None takes the environment's bounds. Own bounds are kept in checkpoints and hold in any
            environment, which clips what its own bounds do not allow. Narrower ones explore less widely.
        action_high: Highest action of each entry; both bounds are given together.
        max_grad_norm: Largest norm of each gradient; None (as published) does not clip.
        encoder: Network in front of actor and critics (one each), given by its ``class_path`` in YAML. None
            flattens observations.
        compile: Compile both gradients. The start is slow, updates are faster; it pays off in long runs.
        spec: Observation and action of the environment; None takes those of the data module.
        threads: OpenMP threads while fitting; ``auto`` decides by the size of the networks and idle cores.
        matmul_precision: Route of float32 matrix products; ``auto`` measures it for wide networks.

    Raises:
        ValueError: An argument is outside its range, or the actions are not continuous with finite bounds.
        RuntimeError: A checkpoint that is loaded was trained with other own bounds.
    """

    looks_at_state = False

    def __init__(
        self,
        hidden: tuple[Width, ...] = (256, 256),
        learning_rate: Share = 3e-4,
        gamma: Share = 0.99,
        tau: Share = 0.005,
        initial_temperature: Positive = 1.0,
        learn_temperature: bool = True,
        target_entropy: Finite | Literal["auto"] = "auto",
        num_critics: SmallCount = 2,
        target_subset: SmallCount | None = None,
        policy_q: Literal["min", "mean"] = "min",
        entropy_backup: bool = True,
        critic_layer_norm: bool = False,
        critic_dropout: Annotated[float, Range(at_least=0, below=1)] = 0.0,
        critic_actor_ratio: Count = 1,
        initial_std: Positive | None = None,
        normalize_observation: bool = False,
        central_critic: bool = False,
        action_low: tuple[Finite, ...] | None = None,
        action_high: tuple[Finite, ...] | None = None,
        max_grad_norm: Positive | None = None,
        encoder: EncoderFactory | None = None,
        compile: bool = False,
        spec: EnvSpec | None = None,
        threads: SmallCount | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        check_arguments(SAC, locals())
        if target_subset is not None and target_subset > num_critics:
            raise ValueError(
                f"SAC: target_subset = {target_subset} must be at most num_critics = {num_critics}, of which "
                "it is drawn; raise num_critics, or leave target_subset = null for the minimum of all"
            )
        super().__init__(spec, threads, matmul_precision, gamma)
        self.save_hyperparameters(ignore=["spec"])
        self.hidden, self.learning_rate, self.tau = list(hidden), learning_rate, tau
        self.initial_temperature, self.learn_temperature = initial_temperature, learn_temperature
        self._target_entropy, self.num_critics = target_entropy, num_critics
        self.policy_q: Literal["min", "mean"] = policy_q
        self.target_subset, self.entropy_backup = target_subset, entropy_backup
        self.critic_layer_norm, self.critic_dropout = critic_layer_norm, critic_dropout
        self.critic_actor_ratio = critic_actor_ratio
        self.initial_std, self.normalize_observation = initial_std, normalize_observation
        self.central_critic = central_critic
        self.action_bounds = own_bounds("SAC", action_low, action_high)
        self.max_grad_norm, self.encoder, self.compile_update = max_grad_norm, encoder, compile

    # Acting

    def build(self, spec: EnvSpec) -> None:
        """Create actor, critics, their targets and the temperature for ``spec``."""
        self.box = ActionBox(spec, "SAC", self.action_bounds)
        self.views = Views(spec, central_critic=self.central_critic)
        of_actor, of_critics = self.views.actor, self.views.critic or spec
        if of_actor.has_joints and not of_critics.has_joints:
            raise ValueError(
                f"SAC: central_critic = true needs the key {JOINT_MASK!r} in the part {CRITIC!r}, too, since "
                f"critics see that part alone; {spec.name} has it for the actor only"
            )
        seen = self.views.observation
        self.observation_norm = ObservationNorm(seen) if self.normalize_observation else None
        self.distribution = TanhNormal(spec.action.size)
        outputs = self.distribution.num_outputs
        self.actor = Actor(of_actor, self.hidden, self.encoder, outputs, mean_and_log_std)
        if self.initial_std is not None:
            begin_with_std(self.actor.last, self.initial_std)
        self.critics = Critics(
            of_critics, self.hidden, self.encoder, self.num_critics, self.critic_layer_norm,
            self.critic_dropout,
        )  # fmt: skip
        self.targets = target_of(self.critics)
        self.log_temperature = nn.Parameter(torch.tensor([math.log(self.initial_temperature)]))
        given = self._target_entropy
        automatic = 1 if spec.has_joints else spec.action.size
        self.target_entropy = -float(automatic) if given == "auto" else float(given)

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Sample the squashed normal, or take the squashed mean, in the units of the environment."""
        seen = self._seen(obs, with_critic=False)
        mean, log_std = self.actor.fast(self._own(seen))
        raw = mean if greedy else torch.addcmul(mean, log_std.exp_(), torch.randn_like(mean))
        return Decision(self.box.to_env(self.box.existing(raw.tanh(), obs)), carry, {})

    def portable_policy(self) -> Portable:
        """Return the policy as plain numbers, for actors elsewhere.

        Raises:
            ValueError: The learner has an encoder, which only torch can evaluate.
        """
        norm_of = "actor" if self.central_critic else ""
        return portable(
            "SAC", self.actor, self.box, "squashed_normal", norm=self.observation_norm, norm_of=norm_of
        )

    def _seen(self, obs: Nested, with_critic: bool = True) -> Nested:
        """Return what the networks see, normalised; ``{"actor": ..., "critic": ...}`` of a central critic."""
        seen = self.views(obs, with_critic)
        return seen if self.observation_norm is None else self.observation_norm(seen)

    def _own(self, seen: Nested) -> Nested:
        return seen["actor"] if self.central_critic else seen

    def _central(self, seen: Nested) -> Nested:
        return seen["critic"] if self.central_critic else seen

    # Learning

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Make one Adam each for actor, critics and temperature."""
        for network in (self.critics, self.targets):
            network.train()  # dropout counts also in a learner that was put into eval mode in between
        rate, largest, compile = self.learning_rate, self.max_grad_norm, self.compile_update
        actor = self.adam(self.actor, rate, max_grad_norm=largest, compile=compile)
        critics = self.adam(self.critics, rate, max_grad_norm=largest, compile=compile)
        self._flat_actor, self._flat_critics = actor.flat, critics.flat
        # targets as one flat tensor with the layout of the critics: blending them is one operation
        self._flat_targets = FlatParameters(self.targets, critics.flat.names)
        return [actor, critics, torch.optim.Adam([self.log_temperature], rate, fused=True)]

    def training_step(self, batch: ReplayBatch, batch_idx: int) -> None:
        """Make M updates, one after the other (Haarnoja 2018, algorithm 1)."""
        self.begin_batch(batch, is_on_policy=False)
        actor_optimizer, critic_optimizer, temperature_optimizer = self.raw_optimizers()
        num_updates, batch_size = batch["reward"].shape
        shape = (2, num_updates, batch_size, self.distribution.size)
        noise = torch.randn(shape, device=self.device, dtype=self.log_temperature.dtype)
        subsets = None
        if self.target_subset is not None:
            subsets = draw_subsets(num_updates, self.num_critics, self.target_subset, self.ranks, self.device)
        of_critics, of_actor = [], []
        if self.observation_norm is not None:  # once per env step, and fixed during the updates of a batch
            self.observation_norm.update(self.views(batch["new_obs"]), sum_over_ranks=self.ranks.sum)
        for m, minibatch in enumerate(minibatches(batch, self.box, self._seen)):
            minibatch["temperature"] = self.log_temperature.detach().exp()
            minibatch["target_subset"] = None if subsets is None else subsets[m]
            loss_of_critics, q_mean = critic_optimizer.minimize_fn(
                self._critic_loss, minibatch, noise[0, m], fixed=(self._flat_actor, self._flat_targets)
            )
            of_critics.append(torch.stack([loss_of_critics, q_mean]))
            if (self.updates + m + 1) % self.critic_actor_ratio == 0:
                loss_of_actor, log_prob = actor_optimizer.minimize_fn(
                    self._actor_loss, minibatch, noise[1, m], fixed=(self._flat_critics,)
                )
                of_actor.append(torch.stack([loss_of_actor, log_prob]))
                if self.learn_temperature:
                    now = self.log_temperature.detach()
                    gradient = temperature_gradient(now, log_prob, self.target_entropy)
                    self.log_temperature.grad = self.ranks.mean(gradient.view(1))
                    temperature_optimizer.step()
            self._flat_targets.blend_(self._flat_critics, self.tau)
        self.updates += num_updates
        self.finish_batch(self._values(of_critics, of_actor), batch)

    def _values(self, of_critics: list[Tensor], of_actor: list[Tensor]) -> dict[str, Tensor | float]:
        """Average what the updates of a batch tell; one without an update of the actor tells less."""
        loss_of_critics, q_mean = torch.stack(of_critics).mean(0)
        temperature = self.log_temperature.detach().exp().squeeze()
        values: dict[str, Tensor | float] = {
            metrics.LOSS_CRITIC: loss_of_critics,
            metrics.TEMPERATURE: temperature,
            metrics.Q_MEAN: q_mean,
        }
        if of_actor:
            loss_of_actor, log_prob = torch.stack(of_actor).mean(0)
            values |= {metrics.LOSS_POLICY: loss_of_actor, metrics.ENTROPY: -log_prob}
            if self.learn_temperature:
                values[metrics.LOSS_TEMPERATURE] = -temperature * (log_prob + self.target_entropy)
        return values

    def _critic_loss(
        self,
        parameters: Parameters | None,
        minibatch: Minibatch,
        noise_BU: Tensor,
        actor: Parameters | None,
        targets: Parameters | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute the loss of the critics (Haarnoja 2018, eqs. 5, 6), and, to log, it and the mean Q."""
        with torch.no_grad():
            own, central = self._own(minibatch["next_obs"]), self._central(minibatch["next_obs"])
            mean, log_std = call_with(actor, self.actor, own)
            next_action, log_prob = self.distribution.sample_with_log_prob(
                mean, log_std, noise_BU, self.box.exists(own)
            )
            next_q_CB = call_with(targets, self.targets, central, next_action, minibatch["target_subset"])
            alpha = minibatch["temperature"] if self.entropy_backup else 0.0
            target_B = soft_target(minibatch["reward"], minibatch["discount"], next_q_CB, log_prob, alpha)
        q_CB = call_with(parameters, self.critics, self._central(minibatch["obs"]), minibatch["action"])
        loss = critic_loss(q_CB, target_B)
        return loss, (loss.detach(), q_CB.detach().mean())

    def _actor_loss(
        self,
        parameters: Parameters | None,
        minibatch: Minibatch,
        noise_BU: Tensor,
        critics: Parameters | None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Compute the loss of the policy (Haarnoja 2018, eq. 7), and, to log, it and the mean log pi."""
        own, central = self._own(minibatch["obs"]), self._central(minibatch["obs"])
        mean, log_std = call_with(parameters, self.actor, own)
        exists = self.box.exists(own)
        action, log_prob_B = self.distribution.sample_with_log_prob(mean, log_std, noise_BU, exists)
        q_CB = call_with(critics, self.critics, central, action)
        loss = soft_policy_loss(minibatch["temperature"], log_prob_B, q_CB, self.policy_q)
        return loss, (loss.detach(), log_prob_B.detach().mean())
