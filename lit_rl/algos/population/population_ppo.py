"""PPO for many bodies, each with a policy of its own, all of them trained in one batch.

It is the other end of one policy for all bodies: nothing is shared, and nothing is learned from another body.

Axes: T steps, N environments, E chosen environments (those of a member), V members, B samples,
P parameters (of a member).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_rl import losses, metrics
from lit_rl.algos.module import MatmulPrecision, RLModule, linear_schedule
from lit_rl.algos.multi_agent import Views
from lit_rl.algos.population.members import (
    check_environments,
    of_members,
    rows_of_members,
    samples_of_members,
)
from lit_rl.algos.population.stacked import Stack
from lit_rl.algos.ppo.actor_critic import ActorCritic
from lit_rl.algos.ppo.policy import ProximalPolicy, StepLog, UpdateSettings, Values
from lit_rl.algos.ppo.ppo import PPO
from lit_rl.algos.ppo.samples import Samples, normalize_advantages, shuffled_epochs
from lit_rl.arguments import Count, Fraction, NonNegative, Positive, Share, SmallCount, Width, check_arguments
from lit_rl.flat import FlatAdam, clip_factor
from lit_rl.nested import map_nested
from lit_rl.nets import Activation, EncoderFactory
from lit_rl.ranks import Ranks
from lit_rl.types import Decision, EnvSpec, LeafSpec, Nested, Rollout


class PopulationPPO(RLModule):
    """PPO with one policy for each number that the environments show at ``key``, such as that of a body.

    Every member has its own networks, statistics and Adam, and its update is that of ``PPO`` on the
    environments of its body, up to rounding: minibatches of all members are taken in the same order, and
    their gradients are computed together (``torch.func.vmap``). The number itself no member sees.

    Logs: means over members of ``loss/policy``, ``loss/value``, ``loss/total``, ``policy/entropy``,
    ``policy/kl``, ``policy/clip_fraction``, ``policy/learning_rate``, ``value/explained_variance``,
    ``update/epochs``, and what ``RLModule`` logs.

    Args:
        key: Key of the observation with a whole number, from which on the members are told apart.
            ``PlanarArm-v0`` has it with ``fixed_bodies``. Each member needs as many environments as the
            others, and environments keep their member.
        hidden: Widths of the hidden layers of each actor and critic.
        activation: Function between layers.
        learning_rate: Step size of Adam.
        anneal_env_steps: Learning rate and ``clip`` go linearly to 0 over so many env steps of all members
            together; None keeps them.
        batch_size: Transitions of each member per minibatch and rank; must divide those of a rollout.
        update_epochs: Passes over each rollout.
        gamma: Discount per step.
        gae_lambda: Decay of generalised advantage estimation.
        clip: Half width of the trusted interval of the probability ratio.
        clip_value: Half width of the trusted interval of the value; None does not clip.
        value_coef: Weight of the value loss.
        entropy_coef: Weight of the entropy bonus.
        huber_delta: Value errors beyond this count linearly, not squared; None squares all.
        value_norm: The critics predict returns normalised by their running mean and deviation.
        max_grad_norm: Largest norm of the gradient of each member; None does not clip.
        normalize_advantage: Give the advantages of each member in each minibatch mean 0 and deviation 1.
        normalize_observation: Normalise observations by the running mean and deviation of each member.
        normalize_return: Divide rewards by the running deviation of the discounted return of each member.
        encoder: Network in front of actor and critic, by its ``class_path`` in YAML. None flattens.
        share_encoder: Whether actor and critic of a member have one encoder together.
        spec: Observation and action of the environment; None takes those of the data module.
        threads: OpenMP threads while fitting; ``auto`` decides by the size of the networks and idle cores.
        matmul_precision: Route of float32 matrix products; ``auto`` measures it for wide networks.

    Raises:
        ValueError: An argument is outside its range, or two contradict each other.
    """

    def __init__(
        self,
        key: str = "body_number",
        hidden: tuple[Width, ...] = (64, 64),
        activation: Activation = "tanh",
        learning_rate: Share = 3e-4,
        anneal_env_steps: Count | None = None,
        batch_size: Count = 64,
        update_epochs: SmallCount = 10,
        gamma: Share = 0.99,
        gae_lambda: Fraction = 0.95,
        clip: Share = 0.2,
        clip_value: Positive | None = None,
        value_coef: NonNegative = 0.5,
        entropy_coef: NonNegative = 0.0,
        huber_delta: Positive | None = None,
        value_norm: bool = False,
        max_grad_norm: Positive | None = 0.5,
        normalize_advantage: bool = True,
        normalize_observation: bool = False,
        normalize_return: bool = False,
        encoder: EncoderFactory | None = None,
        share_encoder: bool = False,
        spec: EnvSpec | None = None,
        threads: SmallCount | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        check_arguments(PopulationPPO, locals())
        if share_encoder and encoder is None:
            raise ValueError("PopulationPPO: share_encoder = true needs an encoder, got encoder = null")
        if normalize_advantage and batch_size == 1:
            raise ValueError(
                "PopulationPPO: batch_size = 1 contradicts normalize_advantage = true: one has no spread"
            )
        super().__init__(spec, threads, matmul_precision, gamma)
        self.save_hyperparameters(ignore=["spec"])
        self.key, self.batch_size, self.anneal_env_steps = key, batch_size, anneal_env_steps
        self.max_grad_norm = max_grad_norm
        self.settings = UpdateSettings(
            learning_rate, update_epochs, gamma, gae_lambda, clip, clip_value, value_coef, entropy_coef,
            huber_delta, None, normalize_advantage,
        )  # fmt: skip
        self._network_arguments: dict[str, Any] = {
            "hidden": list(hidden),
            "activation": activation,
            "encoder": encoder,
            "share_encoder": share_encoder,
            "gru": None,
        }
        self._normalization = {
            "normalize_observation": normalize_observation,
            "normalize_return": normalize_return,
            "value_norm": value_norm,
        }

    def build(self, spec: EnvSpec) -> None:
        """Create networks and statistics of every member.

        Raises:
            ValueError: The environment shows no whole number at ``key``, or has several agents.
        """
        seen = spec.observation
        leaf = seen.get(self.key) if isinstance(seen, dict) else None
        if not isinstance(leaf, LeafSpec) or leaf.shape or len(leaf.categories) != 1 or spec.agents:
            shown = ", ".join(seen) if isinstance(seen, dict) else "one array"
            raise ValueError(
                f"PopulationPPO needs a single agent that observes a whole number at {self.key!r}, which "
                f"tells its policy; {spec.name} shows {shown}"
                + (f" to {len(spec.agents)} agents" if spec.agents else "")
                + ". Name another key, or number the bodies (PlanarArm-v0: fixed_bodies=true)"
            )
        views = Views(self._spec_of_members(spec))
        self.members = nn.ModuleList(self._make(views) for _ in range(leaf.categories[0]))
        self._learned = Stack(self.policies, ("network.",))
        self._deciding = Stack(self.policies, ("network.actor", "network.log_std", "observation_norm."))

    def _make(self, views: Views) -> ProximalPolicy:
        network = ActorCritic(views, **self._network_arguments)
        return ProximalPolicy(views, network, self.settings, **self._normalization)

    def begin_anew(self) -> None:
        """Forget what all members learned: weights, statistics and optimizer states begin as at first.

        The new weights are drawn, and are the same on all ranks.
        """
        seed = self.ranks.gather(int(torch.randint(2**62, ())))[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for policy in self.policies:
                fresh = self._make(policy.views)
                policy.load_state_dict(fresh.state_dict())
                if policy.return_scale is not None:
                    policy.return_scale.return_N = None
        for optimizer in self.raw_optimizers():
            optimizer.state.clear()

    def _spec_of_members(self, spec: EnvSpec) -> EnvSpec:
        """Return the spec without the number of the member."""
        return replace(spec, observation=self._seen(spec.observation))

    def _seen(self, obs: Any) -> dict[str, Any]:
        return {key: leaf for key, leaf in obs.items() if key != self.key}

    @property
    def policies(self) -> list[ProximalPolicy]:
        """The members in the order of their numbers."""
        return list(self.members)  # type: ignore[arg-type]  # a ModuleList does not say what it holds

    @property
    def rows(self) -> int:
        """Rows of a minibatch of all members."""
        return self.batch_size * len(self.members)

    def member(self, number: int) -> PPO:
        """Return the policy of one body as a learner of its own, which acts and exports without the others.

        Raises:
            IndexError: There is no such member.
        """
        if not 0 <= number < len(self.members):
            raise IndexError(f"member must be from 0 to {len(self.members) - 1}, got {number}")
        arguments = {name: value for name, value in self.hparams.items() if name != "key"}
        assert self.spec is not None
        alone = PPO(**arguments, spec=self._spec_of_members(self.spec))
        alone.configure_model()
        alone.policy.load_state_dict(self.policies[number].state_dict())
        return alone

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Let each environment's own policy decide."""
        number_N, seen = obs[self.key].long(), self._seen(obs)
        if torch.compiler.is_compiling():  # an exported policy has no sizes that depend on what it sees
            decided = [policy.act(seen, {}, reset, greedy=greedy).action for policy in self.policies]
            action = decided[0]
            for m, other in enumerate(decided):
                is_its = (number_N == m)[(...,) + (None,) * (action.ndim - 1)]
                action = torch.where(is_its, other, action)
            return Decision(action, carry, {})
        rows_VE, place_N = rows_of_members(number_N, len(self.members))
        seen_VE = map_nested(lambda leaf: leaf[rows_VE], seen)

        def decide(policy: ProximalPolicy, own: Nested) -> Tensor:
            return policy.act(own, {}, reset, greedy=greedy).action

        action_VE = self._deciding.call(decide, seen_VE, axis=0, randomness="different")
        return Decision(action_VE[number_N, place_N], carry, {})

    def configure_optimizers(self) -> Optimizer:
        """Make one Adam over the networks of all members, which is an Adam for each: it knows no norms."""
        return self.adam(self.members, self.settings.learning_rate, 1e-5)

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """Update every member by the rollout of its own environments (Schulman 2017, algorithm 1)."""
        self.begin_batch(rollout, is_on_policy=True)
        (optimizer,), ranks = self.raw_optimizers(), self.ranks
        factor = linear_schedule(self.env_steps, self.anneal_env_steps)
        index_VE = check_environments(rollout["obs"][self.key], len(self.members), self.key)
        rollouts = of_members(rollout, index_VE, self._seen(rollout["obs"]), self._seen(rollout["final_obs"]))
        samples, estimated = samples_of_members(self.policies, rollouts, ranks)  # (B, V, ...)
        steps, optimized = self._optimize(samples, optimizer, ranks, factor)
        for policy, of_member in zip(self.policies, rollouts, strict=True):
            policy.observe(of_member, ranks)
        self.updates += steps
        self.finish_batch(estimated | optimized, rollout)

    def _optimize(
        self, samples: Samples, optimizer: FlatAdam, ranks: Ranks, factor: float
    ) -> tuple[int, Values]:
        """Take the gradient steps of all epochs, each one for all members."""
        settings, number = self.settings, len(samples["log_prob"])
        if number % self.batch_size:
            raise ValueError(
                f"PopulationPPO: batch_size = {self.batch_size} must divide {number}, the transitions of "
                f"each of {len(self.members)} members in a rollout (rollout_steps * its environments)"
            )
        clip = settings.clip * factor
        optimizer.param_groups[0]["lr"] = settings.learning_rate * factor
        steps: list[StepLog] = []
        epoch: list[StepLog] = []
        for minibatches in shuffled_epochs(samples, None, self.batch_size, settings.update_epochs):
            if settings.normalize_advantage:
                minibatches = _normalized(minibatches, ranks)
            epoch = [self._step(optimizer, minibatch, clip, ranks) for minibatch in minibatches]
            steps += epoch
        log_ratio = torch.cat([step.log_ratio.flatten() for step in epoch])
        return len(steps), {
            metrics.LOSS_POLICY: torch.stack([step.policy for step in steps]).mean(),
            metrics.LOSS_VALUE: torch.stack([step.value for step in steps]).mean(),
            metrics.LOSS_TOTAL: torch.stack([step.total for step in steps]).mean(),
            metrics.KL: losses.approximate_kl(log_ratio),
            metrics.CLIP_FRACTION: losses.clip_fraction(log_ratio, clip),
            metrics.EPOCHS: float(settings.update_epochs),
            metrics.LEARNING_RATE: settings.learning_rate * factor,
        }

    def _step(self, optimizer: FlatAdam, minibatch: Samples, clip: float, ranks: Ranks) -> StepLog:
        """Take one gradient step of every member down its own loss; the sum of losses has their gradients."""

        def loss(policy: ProximalPolicy, own: Samples) -> tuple[Tensor, StepLog]:
            return policy.loss(None, own, clip)

        loss_V, log = self._learned.call(loss, minibatch, axis=1)
        optimizer.flat.backward(loss_V.sum())
        grad_VP = ranks.mean(optimizer.flat.grad).view(len(loss_V), -1)  # members follow each other in it
        if self.max_grad_norm is not None:
            grad_VP.mul_(_clip_factors(grad_VP, self.max_grad_norm))
        optimizer.flat.tensor.grad = grad_VP.flatten()
        optimizer.step()
        optimizer.flat.tensor.grad = None
        return log

    def local_state(self) -> dict[str, Any]:
        """Return the running returns of this rank's environments, member by member."""
        return {"members": [policy.local_state() for policy in self.policies]}

    def load_local_state(self, state: dict[str, Any]) -> None:
        """Continue from what :meth:`local_state` returned."""
        for policy, of_member in zip(self.policies, state["members"], strict=True):
            policy.load_local_state(of_member)


def _clip_factors(grad_VP: Tensor, max_norm: float) -> Tensor:
    """Return the factor of each member that clips its gradient, (V, 1)."""
    return torch.stack([clip_factor(grad_P, max_norm) for grad_P in grad_VP]).unsqueeze(1)


def _normalized(minibatches: Sequence[Samples], ranks: Ranks) -> list[Samples]:
    """Normalise the advantages of each member in each of the minibatches (B, V)."""
    names = [name for name in ("advantage", "weight") if name in minibatches[0]]
    members = range(minibatches[0]["advantage"].shape[1])
    alone = [{name: batch[name][:, m] for name in names} for batch in minibatches for m in members]
    normal = [part["advantage"] for part in normalize_advantages(alone, ranks.sum)]
    return [
        batch | {"advantage": torch.stack(normal[i * len(members) : (i + 1) * len(members)], 1)}
        for i, batch in enumerate(minibatches)
    ]
