"""Encoders beside a policy: their losses are those of Predictor, and PPO learns as it does alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from lit_rl import PPO, PredictivePPO, Predictor, RolloutDataModule
from lit_rl.algos.module import RLModule
from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.encoders.gnn import GNNEncoder
from tests.token_toys import Joints
from tests.toys import MemoryLogger, make_trainer

ATTENTION, GNN = partial(AttentionEncoder, width=8, feedforward=8), partial(GNNEncoder, width=8)
POLICY: dict[str, Any] = {"hidden": (16,), "batch_size": 64, "update_epochs": 1, "learning_rate": 3e-3}
PREDICT: dict[str, Any] = {"predict_hidden": (16,), "predict_batch_size": 64}


def fit(module: RLModule, batches: int) -> MemoryLogger:
    torch.manual_seed(0)
    logger = MemoryLogger()
    data = RolloutDataModule(Joints, 4, 32, batches, eval_episodes=4, seed=12, check=False)
    make_trainer(logger=logger).fit(module, datamodule=data)
    return logger


def test_both_encoders_learn_to_predict():
    logger = fit(PredictivePPO(ATTENTION, GNN, predict_epochs=4, **PREDICT, **POLICY), 20)
    for name in ("loss/attention", "loss/gnn"):
        losses = logger.column(name)
        assert losses[0] > 1.0  # observation and reward: who knows nothing is 1 off in each
        assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_loss_is_the_error_of_what_is_predicted():
    """The first loss of an encoder is what Predictor makes of the same rollout."""
    module = PredictivePPO(ATTENTION, **PREDICT, **POLICY)
    seen: dict[str, Any] = {}
    learn = Predictor.learn

    def watched(self: Predictor, rollout: Any, optimizer: Any, ranks: Any) -> Any:
        values = learn(self, rollout, optimizer, ranks)
        seen.setdefault("parts", values)
        return values

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Predictor, "learn", watched)
        logger = fit(module, 1)
    parts = [float(seen["parts"][f"prediction/{name}_error"]) for name in ("observation", "reward")]
    assert logger.column("loss/attention")[0] == pytest.approx(sum(parts), rel=1e-6)
    assert all("loss/gnn" not in values for _, values in logger.rows)


def test_ppo_learns_what_it_learns_alone():
    alone, beside = PPO(**POLICY), PredictivePPO(ATTENTION, GNN, **PREDICT, **POLICY)
    first, second = fit(alone, 3), fit(beside, 3)
    for name in ("loss/policy", "loss/value", "policy/kl"):
        assert first.column(name) == second.column(name)


def test_an_encoder_of_the_other_kind_is_refused():
    with pytest.raises(ValueError, match="gnn must be an encoder whose loss is loss/gnn, got Attention"):
        fit(PredictivePPO(gnn=ATTENTION, **POLICY), 1)


def test_weights_fit_the_same_encoder_in_a_policy():
    beside = PredictivePPO(gnn=GNN, **PREDICT, **POLICY)
    fit(beside, 1)
    policy = PPO(encoder=GNN, **POLICY)
    fit(policy, 1)
    weights = beside.predictors["gnn"].network.encoder.state_dict()
    policy.policy.network.actor_encoder.load_state_dict(weights)
