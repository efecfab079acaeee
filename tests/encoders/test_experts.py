"""Experts behind an encoder: their gate, one of them, their gradients, and what is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.algos.export import export_policy
from lit_rl.encoders.attention import AttentionEncoder
from lit_rl.encoders.experts import ExpertsEncoder, Mixture
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.token_toys import Joints, joint_spec, robots
from tests.toys import make_trainer

BODY = {"joint_mask": [0, 4], "joint_tokens": [3, 4]}
"""Which joints there are, and their gears: 4 + 4 numbers that do not change while a robot moves."""
PPO_SETTINGS: dict[str, Any] = {"hidden": (8,), "batch_size": 32, "update_epochs": 2, "learning_rate": 1e-2}


def data() -> RolloutDataModule:
    return RolloutDataModule(Joints, 4, 16, 2, seed=3, check=False)


def trained(**arguments: Any) -> PPO:
    torch.manual_seed(0)
    module = PPO(**PPO_SETTINGS, **arguments)
    make_trainer().fit(module, datamodule=data())
    return module


def test_shares_sum_to_one_and_depend_on_the_body_alone():
    torch.manual_seed(0)
    encoder = ExpertsEncoder(joint_spec(4), 3, BODY, gate=(16,))
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter)
    obs = robots(6, 4, (2, 3, 4))
    share = encoder.weights(obs)
    assert share.shape == (6, 3)
    torch.testing.assert_close(share.sum(-1), torch.ones(6))
    assert (share > 0).all()
    assert share.std(0).min() > 1e-3, "bodies that differ have other shares"
    moved = {key: leaf.clone() for key, leaf in obs.items()}
    moved["joint_tokens"][..., :3] += 1
    moved["global_token"] += 1
    assert torch.equal(encoder.weights(moved), share)
    assert torch.equal(encoder(obs)[..., :3], share)
    assert torch.equal(encoder(obs)[..., 3:], encoder.inner(obs))


def test_shares_over_any_leading_axes():
    encoder = ExpertsEncoder(joint_spec(4), 3, BODY)
    obs = robots(6, 4, (2, 3, 4))
    folded = {key: leaf.unflatten(0, (2, 3)) for key, leaf in obs.items()}
    torch.testing.assert_close(encoder(folded).flatten(0, 1), encoder(obs))


def test_a_mixture_is_the_mean_by_its_shares():
    """Experts that answer 1 x and 10 x, with shares of 0.25 and 0.75, answer 7.75 x."""

    def times(factor: float) -> torch.nn.Linear:
        layer = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(layer.weight, factor)
        return layer

    mixture = Mixture([times(1.0), times(10.0)])
    torch.testing.assert_close(mixture(torch.tensor([[0.25, 0.75, 2.0]])), torch.tensor([[15.5]]))


def test_one_expert_is_the_policy_without_experts_to_the_bit():
    plain, one = trained(), trained(encoder=partial(ExpertsEncoder, experts=1))
    ours, theirs = list(one.parameters()), list(plain.parameters())
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    attention = partial(AttentionEncoder, width=8, heads=2, feedforward=8)
    plain, one = (
        trained(encoder=attention),
        trained(encoder=partial(ExpertsEncoder, experts=1, encoder=attention)),
    )
    for a, b in zip(one.parameters(), plain.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("inner", [None, partial(AttentionEncoder, width=8, heads=2, feedforward=8)])
def test_gradients_reach_all_experts_and_both_gates(inner: Any):
    experts = partial(ExpertsEncoder, experts=3, body=BODY, encoder=inner)
    torch.manual_seed(0)
    module = PPO(**PPO_SETTINGS, encoder=experts)
    data_module = data()
    module.spec = data_module.spec
    module.configure_model()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    make_trainer(max_epochs=3).fit(module, datamodule=data_module)
    still = [name for name, p in module.named_parameters() if torch.equal(p, before[name])]
    assert still == []
    parts = [f"policy.network.{part}.experts.{k}" for part in ("actor", "critic") for k in range(3)]
    gates = [f"policy.network.{part}_encoder.gate" for part in ("actor", "critic")]
    assert all(any(name.startswith(part) for name in before) for part in (*parts, *gates))


def test_sac_has_experts_too():
    torch.manual_seed(0)
    attention = partial(AttentionEncoder, width=8, heads=2, feedforward=8)
    module = SAC(hidden=(8,), encoder=partial(ExpertsEncoder, experts=2, body=BODY, encoder=attention))
    replay = ReplayDataModule(
        Joints, 4, steps_per_batch=8, batch_size=16, warmup_steps=52, batches_per_epoch=2, check=False
    )
    make_trainer().fit(module, datamodule=replay)
    assert sum(isinstance(part, Mixture) for part in module.modules()) >= 2


def test_the_exported_policy_acts_alike(tmp_path: Path):
    """The file of ``torch.export`` has the gate in it; checkpoints name the encoder as data."""
    module = trained(encoder=partial(ExpertsEncoder, experts=3, body=BODY))
    trainer = module.trainer
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    out = export_policy(
        tmp_path / "last.ckpt", tmp_path / "policy.pt2", encoder=partial(ExpertsEncoder, experts=3, body=BODY)
    )
    obs = robots(5, 4, (2, 3, 4))
    with torch.no_grad():
        expected: Tensor = module.act(obs, {}, torch.zeros(5, dtype=torch.bool), greedy=True).action
    found = torch.export.load(out).module()(obs)
    torch.testing.assert_close(found, expected.clamp(-1, 1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, r"needs body, the entries .* such as \{joint_mask: \[0, 4\]\}; Joints observes"),
        ({"gear": [0, 4]}, r"got gear: \[0, 4\]; Joints observes \{'joint_tokens': \[4, 6\]"),
        ({"joint_tokens": [3, 9]}, r"got joint_tokens: \[3, 9\]"),
        ({"joint_tokens": [4, 3]}, r"got joint_tokens: \[4, 3\]"),
    ],
)
def test_a_body_that_is_not_observed_is_refused(body: Any, message: str):
    with pytest.raises(ValueError, match=message):
        ExpertsEncoder(joint_spec(4), 2, body)


def test_no_experts_actions_without_joints_and_a_memory_are_refused():
    with pytest.raises(ValueError, match="experts = 0, expected"):
        ExpertsEncoder(joint_spec(4), 0)
    box = EnvSpec("toy", LeafSpec([3]), ActionSpec("box", [1], low=[-1.0], high=[1.0]))
    with pytest.raises(ValueError, match=r"belong to joints, as an observation .* tells; toy has none"):
        ExpertsEncoder(box, 2)
    module = PPO(**PPO_SETTINGS, gru=4, encoder=partial(ExpertsEncoder, experts=2, body=BODY))
    module.spec = joint_spec(4)
    with pytest.raises(ValueError, match="reach the layers that decide, but 4 do: leave gru = null"):
        module.configure_model()
