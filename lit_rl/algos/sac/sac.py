"""Soft actor-critic as a LightningModule (Haarnoja 2018, arXiv:1812.05905).

One batch is a block of M minibatches; ``training_step`` does M updates of critics, policy, temperature and
targets.
Axes: M minibatches, B transitions, C critics, U action dimensions.
"""

from __future__ import annotations

import copy
import math
import time
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lit_rl import metrics
from lit_rl.algos.module import RLModule
from lit_rl.compute import MatmulPrecision
from lit_rl.distributions import TanhNormal
from lit_rl.losses import critic_loss, soft_policy_loss, soft_target, temperature_gradient
from lit_rl.nested import map_nested
from lit_rl.nets import EncoderFactory, FlatParameters, Flatten, NumpyMLP, StackedMLP, default_init_mlp
from lit_rl.types import Decision, EnvSpec, Nested, ReplayBatch

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
Minibatch = dict[str, Any]


class SoftActor(nn.Module):
    """Observation to mean and log standard deviation of a normal that is squashed by tanh."""

    def __init__(self, spec: EnvSpec, hidden: list[int], encoder: EncoderFactory | None) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        self.size = spec.action.size
        self.network = default_init_mlp(
            [cast("int", self.encoder.out_features), *hidden, 2 * self.size], "relu"
        )
        plain = isinstance(self.encoder, Flatten) and self.encoder.is_identity
        self._numpy_network = NumpyMLP(self.network) if plain else None

    def forward(self, obs: Nested) -> tuple[Tensor, Tensor]:
        """``(B, ...)`` to mean and log standard deviation, each (B, U), at least float32."""
        return self._split(self.network(self.encoder(obs)))

    def fast(self, obs: Nested) -> tuple[Tensor, Tensor]:
        """The same for acting, in numpy where that computes the same."""
        if self._numpy_network is not None and self._numpy_network.serves(obs):
            return self._split(torch.from_numpy(self._numpy_network(obs.numpy())))
        dtype = next(self.network.parameters()).dtype
        return self(map_nested(lambda leaf: leaf.to(dtype) if leaf.is_floating_point() else leaf, obs))

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        outputs = outputs.float() if outputs.dtype == torch.bfloat16 else outputs
        mean, log_std = outputs.chunk(2, -1)
        return mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)


class SoftCritics(nn.Module):
    """C critics of (observation, action), evaluated together."""

    def __init__(
        self, spec: EnvSpec, hidden: list[int], encoder: EncoderFactory | None, num_critics: int
    ) -> None:
        super().__init__()
        self.encoder = (encoder or Flatten)(spec)
        features = cast("int", self.encoder.out_features)
        self.network = StackedMLP([features + spec.action.size, *hidden, 1], num_critics)

    def forward(self, obs: Nested, action_BU: Tensor) -> Tensor:
        """Values (C, B), at least float32."""
        q_CB = self.network(torch.cat([self.encoder(obs), action_BU], -1)).squeeze(-1)
        return q_CB.float() if q_CB.dtype == torch.bfloat16 else q_CB


class SAC(RLModule):
    """SAC for bounded continuous actions: twin (or more) critics in one batched product, learned temperature.

    Logs: ``loss/critic``, ``loss/policy``, ``loss/temperature``, ``policy/entropy``, ``policy/temperature``,
    ``value/q_mean`` and what ``RLModule`` logs.

    Args:
        hidden: Widths of the hidden layers of actor and critics.
        learning_rate: Of all three Adams. More learns faster until the critics diverge (watch
            ``value/q_mean``).
        gamma: Discount per step, in (0, 1]. More looks further ahead and makes the critics harder to learn.
        tau: Share of the critics blended into their targets at each update, in (0, 1]. Less is slower and
            stabler.
        initial_temperature: Weight alpha of the entropy at the start. More explores longer.
        learn_temperature: Adapt alpha so that the entropy stays at ``target_entropy``.
        target_entropy: In nats; ``auto`` is minus the number of action dimensions. More keeps the policy more
            random.
        num_critics: Critics C; targets and policy use their minimum. More is more pessimistic, and slower.
        max_grad_norm: Largest norm of each gradient; None (as published) does not clip.
        encoder: Builds the network in front of actor and critics (one each), ``class_path`` in YAML.
        compile: Compile both gradients: slow at the start, faster updates afterwards; for long runs.
        spec: See ``RLModule``.
        threads: See ``RLModule``.
        matmul_precision: See ``RLModule``.

    Raises:
        ValueError: An argument is outside its range, or the actions are not continuous with finite bounds.
    """

    action_middle: Tensor
    action_scale: Tensor

    def __init__(
        self,
        hidden: tuple[int, ...] = (256, 256),
        learning_rate: float = 3e-4,
        gamma: float = 0.99,
        tau: float = 0.005,
        initial_temperature: float = 1.0,
        learn_temperature: bool = True,
        target_entropy: float | Literal["auto"] = "auto",
        num_critics: int = 2,
        max_grad_norm: float | None = None,
        encoder: EncoderFactory | None = None,
        compile: bool = False,
        spec: EnvSpec | None = None,
        threads: int | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        super().__init__(spec, threads, matmul_precision)
        self.save_hyperparameters(ignore=["spec"], logger=False)
        self.hidden, self.learning_rate, self.gamma, self.tau = list(hidden), learning_rate, gamma, tau
        self.initial_temperature, self.learn_temperature = initial_temperature, learn_temperature
        self._target_entropy, self.num_critics, self.max_grad_norm = (
            target_entropy,
            num_critics,
            max_grad_norm,
        )
        self.encoder, self.compile_update = encoder, compile
        ranges = {
            "learning_rate": learning_rate > 0,
            "gamma": 0 < gamma <= 1,
            "tau": 0 < tau <= 1,
            "initial_temperature": initial_temperature > 0,
            "num_critics": num_critics >= 1,
        }
        for name, is_fine in ranges.items():
            if not is_fine:
                raise ValueError(
                    f"SAC: {name} = {getattr(self, name)} is outside its range; see the help of the argument"
                )

    # Acting

    def build(self, spec: EnvSpec) -> None:
        """Actor, critics, their targets and the temperature for ``spec``."""
        action = spec.action
        if action.kind != "box":
            raise ValueError(
                f"SAC needs continuous actions (Box), {spec.name} has {action.kind} ones; use PPO for it"
            )
        if spec.agents:
            raise ValueError(f"SAC acts for one agent, {spec.name} has {len(spec.agents)}; use PPO for it")
        if not all(math.isfinite(bound) for bound in [*action.low, *action.high]):
            raise ValueError(
                f"SAC needs finite action bounds, {spec.name} has low {action.low} and high {action.high}; "
                "wrap it with gymnasium.wrappers.RescaleAction"
            )
        self.actor = SoftActor(spec, self.hidden, self.encoder)
        self.critics = SoftCritics(spec, self.hidden, self.encoder, self.num_critics)
        self.targets = copy.deepcopy(self.critics).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor([math.log(self.initial_temperature)]))
        self.distribution = TanhNormal(action.size)
        given = self._target_entropy
        self.target_entropy = -float(action.size) if given == "auto" else float(given)
        low, high = torch.tensor(action.low), torch.tensor(action.high)
        self.register_buffer("action_middle", (high + low) / 2, persistent=False)
        self.register_buffer("action_scale", (high - low) / 2, persistent=False)
        self.action_shape = action.shape

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Sample the squashed normal (or take the squashed mean), in the units of the environment."""
        mean, log_std = self.actor.fast(obs)
        raw = mean if greedy else torch.addcmul(mean, log_std.exp_(), torch.randn_like(mean))
        action = torch.addcmul(self.action_middle, raw.tanh(), self.action_scale)
        return Decision(
            action.unflatten(-1, self.action_shape) if len(self.action_shape) != 1 else action, carry, {}
        )

    # Learning

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Fused Adam for actor, critics and temperature, the first two over one flat parameter each."""
        self.flat_actor, self.flat_critics = FlatParameters(self.actor), FlatParameters(self.critics)
        # targets as one flat tensor with the layout of the critics: blending them is one operation
        self.targets.requires_grad_(True)
        self.flat_targets = FlatParameters(self.targets)
        self.targets.requires_grad_(False)
        self._critic_gradient = self._compiled(self._critic_loss) if self.compile_update else None
        self._actor_gradient = self._compiled(self._actor_loss) if self.compile_update else None
        parameters = [self.flat_actor.tensor, self.flat_critics.tensor, self.log_temperature]
        return [torch.optim.Adam([parameter], self.learning_rate, fused=True) for parameter in parameters]

    def training_step(self, batch: ReplayBatch, batch_idx: int) -> None:
        """M updates, one after the other."""
        start = time.perf_counter()
        self.begin_batch(None)  # off-policy: any version may have collected
        self._attach()
        actor_optimizer, critic_optimizer, temperature_optimizer = self.raw_optimizers()
        obs, next_obs = batch["obs"], batch["next_obs"]
        action = (batch["action"].flatten(2) - self.action_middle) / self.action_scale  # (M, B, U) in [-1, 1]
        num_updates, batch_size, size = action.shape
        noise = torch.randn(
            2, num_updates, batch_size, size, device=action.device, dtype=self.log_temperature.dtype
        )
        logged = []
        for m in range(num_updates):
            minibatch = {
                "obs": map_nested(lambda leaf: leaf[m], obs),  # noqa: B023
                "next_obs": map_nested(lambda leaf: leaf[m], next_obs),  # noqa: B023
                "action": action[m],
                "reward": batch["reward"][m],
                "discount": batch["discount"][m],
                "temperature": self.log_temperature.detach().exp(),
            }
            of_critics, q_mean = self._critic_step(critic_optimizer, minibatch, noise[0, m])
            of_actor, log_prob = self._actor_step(actor_optimizer, minibatch, noise[1, m])
            if self.learn_temperature:
                gradient = temperature_gradient(self.log_temperature.detach(), log_prob, self.target_entropy)
                self.log_temperature.grad = gradient.view(1)
                self.step(temperature_optimizer, self.log_temperature.grad)
            self.flat_targets.tensor.data.lerp_(self.flat_critics.tensor.data, self.tau)
            logged.append(torch.stack([of_critics, of_actor, log_prob, q_mean]))
        self.updates += num_updates
        self.finish_batch(self._values(torch.stack(logged).mean(0)), batch, batch["new_steps"], start)

    def _attach(self) -> None:
        for flat in (self.flat_actor, self.flat_critics, self.flat_targets):
            flat.attach()

    def _values(self, mean: Tensor) -> dict[str, Tensor | float]:
        of_critics, of_actor, log_prob, q_mean = mean
        temperature = self.log_temperature.detach().exp().squeeze()
        values: dict[str, Tensor | float] = {
            metrics.LOSS_CRITIC: of_critics,
            metrics.LOSS_POLICY: of_actor,
            metrics.ENTROPY: -log_prob,
            metrics.TEMPERATURE: temperature,
            metrics.Q_MEAN: q_mean,
        }
        if self.learn_temperature:
            values[metrics.LOSS_TEMPERATURE] = -temperature * (log_prob + self.target_entropy)
        return values

    def _critic_step(
        self, optimizer: torch.optim.Optimizer, minibatch: Minibatch, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self._critic_gradient is None:
            loss, q_mean = self._critic_loss(None, minibatch, noise)
            self.optimize(optimizer, loss, self.flat_critics, self.max_grad_norm)
            return loss.detach(), q_mean
        others = (self.flat_actor.tensor.detach(), self.flat_targets.tensor.detach())
        grad, (loss, q_mean) = self._critic_gradient(
            self.flat_critics.tensor.detach(), minibatch, noise, others
        )
        self.flat_critics.tensor.grad = grad
        self.step(optimizer, grad, self.max_grad_norm)
        return loss, q_mean

    def _actor_step(
        self, optimizer: torch.optim.Optimizer, minibatch: Minibatch, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        if self._actor_gradient is None:
            self.flat_critics.requires_grad_(
                False
            )  # their weight gradients would be computed and thrown away
            loss, log_prob = self._actor_loss(None, minibatch, noise)
            self.optimize(optimizer, loss, self.flat_actor, self.max_grad_norm)
            self.flat_critics.requires_grad_(True)
            return loss.detach(), log_prob
        others = (self.flat_critics.tensor.detach(),)
        grad, (loss, log_prob) = self._actor_gradient(
            self.flat_actor.tensor.detach(), minibatch, noise, others
        )
        self.flat_actor.tensor.grad = grad
        self.step(optimizer, grad, self.max_grad_norm)
        return loss, log_prob

    def _critic_loss(
        self, flat: Tensor | None, minibatch: Minibatch, noise: Tensor, others: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """Loss of the critics (Haarnoja 2018, eqs. 5, 6) and their mean; ``flat`` replaces parameters."""
        actor, targets = others or (None, None)
        with torch.no_grad():
            mean, log_std = _call(self.actor, self.flat_actor, actor, minibatch["next_obs"])
            next_action, log_prob = self.distribution.sample_with_log_prob(mean, log_std, noise)
            next_q_CB = _call(self.targets, self.flat_targets, targets, minibatch["next_obs"], next_action)
            target = soft_target(
                minibatch["reward"], minibatch["discount"], next_q_CB, log_prob, minibatch["temperature"]
            )
        q_CB = _call(self.critics, self.flat_critics, flat, minibatch["obs"], minibatch["action"])
        return critic_loss(q_CB, target), q_CB.detach().mean()

    def _actor_loss(
        self, flat: Tensor | None, minibatch: Minibatch, noise: Tensor, others: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """Loss of the policy (Haarnoja 2018, eq. 7), mean log-probability; ``flat`` replaces parameters."""
        critics = others[0] if others else None
        mean, log_std = _call(self.actor, self.flat_actor, flat, minibatch["obs"])
        action, log_prob = self.distribution.sample_with_log_prob(mean, log_std, noise)
        q_CB = _call(self.critics, self.flat_critics, critics, minibatch["obs"], action)
        return soft_policy_loss(minibatch["temperature"], log_prob, q_CB), log_prob.detach().mean()

    def _compiled(self, loss_fn: Any) -> Any:
        """Gradient of a loss over its flat parameter as one compiled graph; the optimizer stays outside."""

        def gradient(flat: Tensor, minibatch: Minibatch, noise: Tensor, others: tuple[Tensor, ...]) -> Any:
            def loss_and_logged(flat: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
                loss, logged = loss_fn(flat, minibatch, noise, others)
                return loss, (loss.detach(), logged)

            return torch.func.grad_and_value(loss_and_logged, has_aux=True)(flat)

        def flattened(flat: Tensor, minibatch: Minibatch, noise: Tensor, others: tuple[Tensor, ...]) -> Any:
            grad, (_, logged) = gradient(flat, minibatch, noise, others)
            return grad, logged

        return torch.compile(flattened, fullgraph=True, dynamic=False)


def _call(module: nn.Module, flat: FlatParameters, replacement: Tensor | None, *inputs: Any) -> Any:
    """Evaluate ``module``, with its parameters taken from ``replacement`` when that is given."""
    if replacement is None:
        return module(*inputs)
    return torch.func.functional_call(module, flat.unflatten(replacement), inputs)
