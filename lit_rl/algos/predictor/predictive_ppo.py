"""PPO, and beside it encoders that learn to predict from the same rollouts.

Axes: T steps, N environments.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from lit_rl import metrics
from lit_rl.algos.module import linear_schedule
from lit_rl.algos.ppo.ppo import PPO
from lit_rl.algos.predictor.predictor import Predictor
from lit_rl.arguments import Count, SmallCount, Width, check_arguments
from lit_rl.nets import EncoderFactory
from lit_rl.types import EnvSpec, Rollout

_LOSSES = {"attention": metrics.LOSS_ATTENTION, "gnn": metrics.LOSS_GNN}


class PredictivePPO(PPO):
    """PPO whose rollouts also train an attention network and a graph network, each on its own.

    Each of the two learns what ``Predictor`` learns: what changes in the observation, and the reward. Their
    losses are errors of predictions of what took place. The policy does not use them, and learns what ``PPO``
    learns, bit for bit; their weights fit the same encoder in a policy, as in
    ``learner.predictors["gnn"].network.encoder``.

    Logs: ``loss/*`` (of the encoders: attention, gnn), ``policy/*``, ``value/explained_variance``,
    ``update/epochs`` and what ``RLModule`` logs.

    Args:
        attention: Encoder whose loss is ``loss/attention``, given by its ``class_path``; None trains none.
        gnn: Encoder whose loss is ``loss/gnn``; None trains none.
        predict_hidden: Widths of the hidden layers between their features and the predictions.
        predict_batch_size: Transitions in one of their minibatches.
        predict_epochs: Their passes over each rollout.
        **ppo: Arguments of ``PPO``; ``learning_rate`` is that of all networks.

    Raises:
        ValueError: An argument is outside its range, or an encoder is of the other kind.
    """

    def __init__(
        self,
        attention: EncoderFactory | None = None,
        gnn: EncoderFactory | None = None,
        predict_hidden: tuple[Width, ...] = (64,),
        predict_batch_size: Count = 512,
        predict_epochs: SmallCount = 1,
        **ppo: Any,
    ) -> None:
        given = dict(locals())
        check_arguments(PredictivePPO, given | ppo)
        super().__init__(**ppo)
        encoders = {"attention": attention, "gnn": gnn}
        arguments: dict[str, Any] = {
            "hidden": predict_hidden,
            "learning_rate": self.settings.learning_rate,
            "batch_size": predict_batch_size,
            "update_epochs": predict_epochs,
        }
        self.predictors = {
            name: Predictor(encoder, **arguments) for name, encoder in encoders.items() if encoder is not None
        }

    def build(self, spec: EnvSpec) -> None:
        """Create what PPO needs, and an encoder with perceptrons that predict for each kind.

        Raises:
            ValueError: An encoder is of the other kind, or some actions are not allowed at times.
        """
        super().build(spec)
        with self._drawing_apart():
            self._build_predictors(spec)

    def _drawing_apart(self) -> AbstractContextManager[None]:
        """Leave the random numbers that PPO draws afterwards as they were."""
        return torch.random.fork_rng([self.device] if self.device.type == "cuda" else [])

    def _build_predictors(self, spec: EnvSpec) -> None:
        for name, predictor in self.predictors.items():
            predictor.build(spec)
            if predictor.loss_name != _LOSSES[name]:
                kind = type(predictor.network.encoder).__name__
                raise ValueError(
                    f"PredictivePPO: {name} must be an encoder whose loss is {_LOSSES[name]}, got {kind}, "
                    f"whose loss is {predictor.loss_name}"
                )
            self.add_module(f"{name}_network", predictor.network)
            for part in ("norm_token", "norm_rest", "norm_reward"):
                self.add_module(f"{name}_{part}", getattr(predictor, part))

    def configure_optimizers(self) -> Any:
        """Make the Adam of PPO, and one for each encoder."""
        adams = [
            self.adam(predictor.network, predictor.learning_rate, max_grad_norm=predictor.max_grad_norm)
            for predictor in self.predictors.values()
        ]
        return [super().configure_optimizers(), *adams]

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        """Update actor and critic as PPO does, then let each encoder learn from the same rollout."""
        self.begin_batch(rollout, is_on_policy=True)
        policy, ranks = self.policy, self.ranks
        adam, *adams = self.raw_optimizers()
        factor = linear_schedule(self.env_steps, self.anneal_env_steps)
        replayed = policy.replay(rollout)
        samples, estimated = policy.samples(rollout, replayed, ranks)
        steps, optimized = policy.optimize(samples, rollout["valid"], adam, ranks, self.batch_size, factor)
        policy.observe(rollout, ranks)
        values: dict[str, Tensor | float] = estimated | optimized
        with self._drawing_apart():
            for predictor, own in zip(self.predictors.values(), adams, strict=True):
                before = predictor.updates
                values[predictor.loss_name] = predictor.learn(rollout, own, ranks)[predictor.loss_name]
                steps += predictor.updates - before
        self.updates += steps
        self.finish_batch(values, rollout)
