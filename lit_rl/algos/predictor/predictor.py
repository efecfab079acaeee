"""An encoder trained alone: it learns what lets one predict the next observation and the reward.

One batch is one rollout ``(T, N, ...)``. Axes: T steps, N environments, A agents, B samples, J tokens,
W token features, F features; (T, N) stands for (T, N, A) where there are agents.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.algos.module import MatmulPrecision, RLModule
from lit_rl.algos.multi_agent import Views
from lit_rl.algos.predictor.network import Prediction, PredictionNetwork
from lit_rl.arguments import Count, NonNegative, Positive, Share, SmallCount, Width, check_arguments
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.distributions import precise
from lit_rl.flat import FlatAdam, Parameters, call_with
from lit_rl.losses import weighted_mean
from lit_rl.nested import cast_floats, map_nested
from lit_rl.nets import EncoderFactory
from lit_rl.normalize import RunningNorm
from lit_rl.ranks import Ranks
from lit_rl.types import JOINT_MASK, Decision, EnvSpec, Nested, Rollout

Minibatch: TypeAlias = dict[str, Any]
"""``obs`` and ``action`` (B, ...); normalised ``token`` (B, J, W) where there are joints, ``rest`` (B, F) and
``reward`` (B,) that should be predicted; ``weight`` (B,), 0 where no transition took place."""

_LOSSES = {"attention": metrics.LOSS_ATTENTION, "gnn": metrics.LOSS_GNN}


class Predictor(RLModule):
    """Trains an encoder by predicting what follows: the change of the observation, and the reward.

    The environment is played at random. A prediction is normalised by running mean and deviation of what it
    should be, so that an error of 1 is that of who knows nothing. The greedy policy, by which evaluations see
    whether the reward is understood, takes of 32 actions the one with the highest predicted reward of the
    next step.

    The encoder is ``learner.network.encoder``; its weights fit the same encoder in a policy, as in
    ``ppo.policy.network.actor_encoder.load_state_dict(...)``.

    Logs: ``loss/*``, whose name says what kind of encoder it is (attention, gnn, or encoder),
    ``prediction/observation_error``, ``prediction/reward_error`` and what ``RLModule`` logs.

    Args:
        encoder: Network that is trained, given by its ``class_path`` in YAML. None flattens observations, and
            trains the perceptrons alone.
        hidden: Widths of the hidden layers between its features and the prediction.
        learning_rate: Step size of Adam.
        batch_size: Transitions per minibatch and rank, those of each agent counted.
        update_epochs: Passes over each rollout.
        reward_coef: Weight of the reward's error beside that of the observation.
        max_grad_norm: Largest norm of the gradient over all parameters; None does not clip.
        compile: Compile the gradient of a minibatch. The start is slow, updates are faster.
        gamma: Discount per step; only statistics of data modules use it.
        spec: Observation and action of the environment; None takes those of the data module.
        threads: OpenMP threads while fitting; ``auto`` decides by the size of the networks and idle cores.
        matmul_precision: Route of float32 matrix products; ``auto`` measures it for wide networks.

    Raises:
        ValueError: An argument is outside its range, some actions are not allowed at times (an action mask),
            or a rollout is smaller than a minibatch.
    """

    def __init__(
        self,
        encoder: EncoderFactory | None = None,
        hidden: tuple[Width, ...] = (64,),
        learning_rate: Share = 1e-3,
        batch_size: Count = 256,
        update_epochs: SmallCount = 4,
        reward_coef: NonNegative = 1.0,
        max_grad_norm: Positive | None = 1.0,
        compile: bool = False,
        gamma: Share = 0.99,
        spec: EnvSpec | None = None,
        threads: SmallCount | Literal["auto"] = "auto",
        matmul_precision: MatmulPrecision = "auto",
    ) -> None:
        check_arguments(Predictor, locals())
        if not hidden:
            raise ValueError("Predictor: hidden must name at least one width, got an empty list")
        super().__init__(spec, threads, matmul_precision, gamma)
        self.save_hyperparameters(ignore=["spec"], logger=False)
        self.encoder, self.hidden = encoder, list(hidden)
        self.learning_rate, self.max_grad_norm, self.compile_update = learning_rate, max_grad_norm, compile
        self.batch_size, self.update_epochs, self.reward_coef = batch_size, update_epochs, reward_coef

    def build(self, spec: EnvSpec) -> None:
        """Create encoder, perceptrons and the statistics of what is predicted.

        Raises:
            ValueError: Some actions are not allowed at times.
        """
        if spec.has_action_mask:
            raise ValueError(f"Predictor plays at random, but {spec.name} does not allow every action always")
        self.views = Views(spec)
        self.random = UniformPolicy(spec)
        self.network = PredictionNetwork(self.views.actor, self.encoder, self.hidden)
        network = self.network
        tokens = 0 if network.layout is None else network.reader.token_features
        self.norm_token = RunningNorm([tokens]) if tokens else None
        self.norm_rest = RunningNorm([network.num_rest]) if network.num_rest else None
        self.norm_reward = RunningNorm([])
        self.loss_name = _LOSSES.get(getattr(network.encoder, "loss_name", ""), metrics.LOSS_ENCODER)

    @property
    def rows(self) -> int:
        """Rows of a minibatch."""
        return self.batch_size

    # Acting

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        """Act at random, or take the action that promises the highest reward for the next step."""
        if greedy:
            return Decision(self._most_promising(obs), carry, {})
        return Decision(self.random.act(obs, carry, reset).action.to(self.device), carry, {})

    def _most_promising(self, obs: Nested) -> Tensor:
        """Return, of a fixed set of actions, the one with the highest predicted reward, (N, ...)."""
        seen = cast_floats(self.views(obs), next(self.network.parameters()).dtype)
        features = self.network.encoder(seen)
        lead, spec = features.shape[:-1], self.views.actor.action
        candidates = _candidates(spec.kind, spec.shape, spec.categories, spec.low, spec.high).to(self.device)
        number, shape = len(candidates), candidates.shape[1:]
        each = candidates.view(number, *[1] * len(lead), *shape).expand(number, *lead, *shape)
        promised = self.network.predict(features.expand(number, *features.shape), seen, each).reward
        action = candidates[promised.argmax(0)]
        return action * (seen[JOINT_MASK] != 0) if self.views.actor.has_joints else action

    # Learning

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Make one Adam for encoder and perceptrons."""
        return self.adam(
            self.network, self.learning_rate, max_grad_norm=self.max_grad_norm, compile=self.compile_update
        )

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """Predict every transition of a rollout, and learn from the errors."""
        self.begin_batch(rollout, is_on_policy=True)
        (optimizer,) = self.raw_optimizers()
        self.finish_batch(self.learn(rollout, optimizer, self.ranks), rollout)

    def learn(self, rollout: Rollout, optimizer: FlatAdam, ranks: Ranks) -> dict[str, Tensor | float]:
        """Take the gradient steps of one rollout, and return what is logged of them."""
        minibatches = self._minibatches(self._samples(rollout, ranks))
        logged = [optimizer.minimize_fn(self._loss, minibatch) for minibatch in minibatches]
        self.updates += len(logged)
        total, of_observation, of_reward = torch.stack(logged).mean(0)
        return {
            self.loss_name: total,
            metrics.PREDICTION_OBSERVATION: of_observation,
            metrics.PREDICTION_REWARD: of_reward,
        }

    @torch.no_grad()
    def _samples(self, rollout: Rollout, ranks: Ranks) -> Minibatch:
        """Join each observation and action with what followed, normalised after it joined the statistics."""
        rows, views, network = self.views.rows(rollout), self.views, self.network
        axes = rows.reward.ndim - 1
        obs, final_obs = views(rollout["obs"]), views(rollout["final_obs"])
        now = map_nested(lambda leaf: leaf[:-1], obs)
        index = rollout["final_index"]

        def true_next(leaf: Tensor, final: Tensor) -> Tensor:
            following = leaf[1:].clone()
            following.flatten(0, 1)[index] = final.to(following.dtype)
            return following

        joined = map_nested(lambda leaf: leaf.flatten(0, axes), now)
        after = map_nested(lambda leaf: leaf.flatten(0, axes), map_nested(true_next, obs, final_obs))
        token, rest = network.observed(joined)
        next_token, next_rest = network.observed(after)
        acted = torch.ones_like(rows.reward, dtype=torch.bool) if rows.acted is None else rows.acted
        acted_B = acted.flatten()
        samples: Minibatch = {"obs": joined, "action": rollout["action"].flatten(0, axes)}
        if token is not None and next_token is not None and self.norm_token is not None:
            exists = (joined[JOINT_MASK] != 0) & acted_B.unsqueeze(-1)
            samples["token"] = self._normalize(self.norm_token, next_token - token, exists, ranks)
        if self.norm_rest is not None:
            samples["rest"] = self._normalize(self.norm_rest, next_rest - rest, acted_B, ranks)
        reward = rows.reward.flatten().to(rest.dtype)
        samples["reward"] = self._normalize(self.norm_reward, reward, acted_B, ranks)
        samples["weight"] = acted_B.to(rest.dtype)
        return samples

    def _normalize(self, norm: RunningNorm, target: Tensor, counted: Tensor, ranks: Ranks) -> Tensor:
        norm.update(target, valid=counted, sum_over_ranks=ranks.sum)
        return norm(target).to(target.dtype)

    def _minibatches(self, samples: Minibatch) -> Iterator[Minibatch]:
        """Yield shuffled minibatches of constant size, which leave out what is left over."""
        number, size = len(samples["reward"]), self.batch_size
        if number < size:
            raise ValueError(
                f"Predictor: batch_size = {size}, expected at most {number}, the transitions of a rollout "
                "(rollout_steps * num_envs * agents); change one of them"
            )
        for _ in range(self.update_epochs):
            order = torch.randperm(number, device=samples["reward"].device)
            for indices in order[: number - number % size].split(size):
                yield map_nested(lambda leaf: leaf.index_select(0, indices), samples)  # noqa: B023

    def _loss(self, parameters: Parameters | None, minibatch: Minibatch) -> tuple[Tensor, Tensor]:
        """Compute the mean squared error of observation and reward, and, to log, it and its two parts."""
        predicted: Prediction = call_with(parameters, self.network, minibatch["obs"], minibatch["action"])
        weight_B, errors = minibatch["weight"], []
        if predicted.token is not None:
            exists = (minibatch["obs"][JOINT_MASK] != 0).to(weight_B.dtype)
            of_joint = _mean_error(precise(predicted.token), minibatch["token"], self.norm_token)
            errors.append((of_joint * exists).sum(-1) / exists.sum(-1).clamp(min=1))
        if "rest" in minibatch:
            errors.append(_mean_error(precise(predicted.rest), minibatch["rest"], self.norm_rest))
        of_observation = weighted_mean(torch.stack(errors).mean(0), weight_B)
        of_reward = weighted_mean((precise(predicted.reward) - minibatch["reward"]).square(), weight_B)
        total = of_observation + self.reward_coef * of_reward
        return total, torch.stack([total, of_observation, of_reward]).detach()


def _mean_error(predicted: Tensor, target: Tensor, norm: RunningNorm | None) -> Tensor:
    """Average the squared error over the features (..., F) that ever change; others cannot be mistaken."""
    if norm is None:
        raise TypeError("what is predicted must have statistics")
    changes = (norm.variance > norm.epsilon).to(target.dtype)
    return ((predicted - target).square() * changes).sum(-1) / changes.sum().clamp(min=1)


def _candidates(
    kind: str, shape: list[int], categories: list[int], low: list[float], high: list[float], number: int = 32
) -> Tensor:
    """Return actions to choose among: all discrete ones, or so many random ones, always the same."""
    if kind == "discrete":
        return torch.arange(categories[0])
    chance = torch.rand(number, max(len(low), len(categories)), generator=torch.Generator().manual_seed(0))
    if kind == "box":
        least, most = torch.tensor(low), torch.tensor(high)
        return (least + (most - least) * chance).view(number, *shape)
    return (chance * torch.tensor(categories)).long().view(number, *shape)
