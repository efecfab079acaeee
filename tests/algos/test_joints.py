"""Robots of several sizes in one batch: what an absent joint does counts nowhere, in no learner."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributions as slow
from torch.testing import assert_close

from lit_rl import HMASD, PPO, SAC, TD3, Predictor, ReplayDataModule, RolloutDataModule
from lit_rl.algos.action_box import ActionBox
from lit_rl.algos.critics import Critics
from lit_rl.algos.export import export_policy
from lit_rl.algos.multi_agent import Views
from lit_rl.algos.ppo.actor_critic import ActorCritic
from lit_rl.algos.sac.tanh_normal import TanhNormal
from lit_rl.collect.uniform import UniformPolicy
from lit_rl.distributions import DiagNormal
from lit_rl.encoders.entities import EntityReader
from lit_rl.normalize import ObservationNorm
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.cases import TOKEN_ENCODERS
from tests.token_toys import Joints, joint_spec, robots
from tests.toys import WatchedPPO, fit, make_trainer

MASK = torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0]])


# Distributions


def test_a_normal_of_joints_that_exist_agrees_with_its_slow_twin():
    torch.manual_seed(0)
    mean, log_std, action = torch.randn(2, 4), torch.randn(1), torch.randn(2, 4)
    ours, parameters = DiagNormal(4), (mean, log_std, MASK)
    twin = slow.Normal(mean, log_std.exp().expand(4))
    log_prob, entropy = ours.log_prob_and_entropy(parameters, action)
    assert_close(log_prob, (twin.log_prob(action) * MASK).sum(-1))
    assert_close(entropy, (twin.entropy() * MASK).sum(-1) / MASK.sum(-1))  # the mean per joint
    assert_close(ours.mode(parameters), mean * MASK)
    sample = ours.sample(parameters)
    assert ((sample != 0) == (MASK != 0)).all()


def test_absent_joints_have_no_gradient():
    torch.manual_seed(0)
    mean, log_std = torch.randn(2, 4, requires_grad=True), torch.zeros(2, 4, requires_grad=True)
    distribution, parameters = DiagNormal(4), (mean, log_std, MASK)
    log_prob, entropy = distribution.log_prob_and_entropy(parameters, torch.randn(2, 4))
    (log_prob.square() + entropy).sum().backward()
    for parameter in (mean, log_std):
        assert parameter.grad is not None
        assert ((parameter.grad != 0) == (MASK != 0)).all()


def test_a_squashed_normal_of_joints_that_exist_is_the_mean_per_joint():
    torch.manual_seed(0)
    mean, log_std, noise = torch.randn(3, 2, 4)
    action, log_prob = TanhNormal(4).sample_with_log_prob(mean, log_std, noise, MASK.float())
    for row, joints in enumerate(MASK.bool()):
        alone = (x[row, joints] for x in (mean, log_std, noise))
        expected_action, total = TanhNormal(int(joints.sum())).sample_with_log_prob(*alone)
        assert_close(action[row, joints], expected_action)
        assert_close(log_prob[row], total / joints.sum())
    assert (action[MASK == 0] == 0).all()


# PPO


def network(name: str | None, max_joints: int, seed: int = 0, share: bool = False) -> ActorCritic:
    torch.manual_seed(seed)
    encoder = None if name is None else TOKEN_ENCODERS[name]
    return ActorCritic(Views(joint_spec(max_joints)), [8], "tanh", encoder, share, None)


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
@pytest.mark.parametrize("share", [False, True])
def test_the_same_robots_in_wider_arrays_get_the_same_probabilities(name: str, share: bool):
    three, five = network(name, 3, share=share), network(name, 5, share=share)
    five.load_state_dict(three.state_dict())
    obs = robots(6, 3, (2, 3))
    wide = {
        key: torch.zeros(6, 5, *obs[key].shape[2:], dtype=obs[key].dtype) for key in obs if "joint" in key
    }
    for key, leaf in wide.items():
        leaf[:, :3] = obs[key]
    action = torch.randn(6, 3) * obs["joint_mask"]
    wide_action = torch.cat([action, torch.randn(6, 2)], -1)  # what stands there counts nowhere
    wide |= {"global_token": obs["global_token"]}
    for ours, theirs in zip(
        three({"obs": obs, "action": action}), five({"obs": wide, "action": wide_action}), strict=True
    ):
        assert_close(theirs, ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [None, *TOKEN_ENCODERS])
def test_joints_share_one_deviation_and_absent_ones_stay_where_they_are(name: str | None):
    actor_critic = network(name, 4)
    assert actor_critic.log_std is not None
    assert actor_critic.log_std.shape == (1,)
    obs = robots(64, 4, (2, 3, 4))
    for greedy in (True, False):
        action, _ = actor_critic.act(obs, greedy)
        assert action.shape == (64, 4)
        assert ((action != 0) == (obs["joint_mask"] != 0)).all()


def test_entropy_does_not_grow_with_the_number_of_joints():
    obs = robots(3, 4, (1, 2, 4))
    _, entropy, _ = network("attention", 4)({"obs": obs, "action": torch.zeros(3, 4)})
    assert_close(entropy, slow.Normal(0.0, 1.0).entropy().expand(3))


def test_a_recurrent_policy_cannot_tell_joints_apart():
    with pytest.raises(ValueError, match=r"AttentionEncoder tells 4 joints apart by .* leave gru = null"):
        ActorCritic(Views(joint_spec(4)), [8], "tanh", TOKEN_ENCODERS["attention"], False, 8)


def test_a_mask_of_another_size_is_refused():
    spec = EnvSpec("toy", {"joint_mask": LeafSpec([3]), "x": LeafSpec([2])}, ActionSpec("box", [4]))
    views = Views(spec)
    with pytest.raises(ValueError, match=r"toy: observation\['joint_mask'\] must have one entry per entry"):
        ActorCritic(views, [8], "tanh", None, False, None)


def test_joints_share_statistics_in_which_absent_ones_do_not_count():
    norm = ObservationNorm(joint_spec(2).observation)
    token = torch.tensor([[[1.0] * 6, [5.0] * 6], [[3.0] * 6, [100.0] * 6]])
    obs = {
        "joint_tokens": token,
        "joint_mask": torch.tensor([[1, 1], [1, 0]]),
        "global_token": torch.zeros(2, 2),
    }
    norm.update(obs)
    of_tokens: Any = norm.norms["leaf:joint_tokens"]
    assert_close(of_tokens.mean, torch.full((6,), 3.0, dtype=torch.float64))
    assert_close(of_tokens.variance, torch.full((6,), 8 / 3, dtype=torch.float64))
    norm.update(obs, valid=torch.tensor([False, True]))
    assert of_tokens.count == 4
    assert torch.equal(norm(obs)["joint_mask"], obs["joint_mask"])


# Whole learners


def rollouts(batches: int = 2) -> RolloutDataModule:
    return RolloutDataModule(Joints, 4, 32, batches, eval_episodes=4, seed=1, check=False)


def replays(batches: int = 2) -> ReplayDataModule:
    return ReplayDataModule(
        Joints, 4, steps_per_batch=2, batch_size=16, warmup_steps=40, capacity=300, batches_per_epoch=batches,
        eval_episodes=4, seed=1, check=False,
    )  # fmt: skip


def unmoved(module: Any, data: Any) -> list[str]:
    """Names of trained parameters that a fit leaves alone."""
    torch.manual_seed(0)
    spec = data.environments.spec if hasattr(data, "environments") else None
    module.spec = spec
    module.configure_model()
    before = {key: p.detach().clone() for key, p in module.named_parameters()}
    fit(module, data, limit_val_batches=1.0)
    after = dict(module.named_parameters())
    return [key for key, old in before.items() if after[key].requires_grad and torch.equal(old, after[key])]


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
@pytest.mark.parametrize("learner", ["ppo", "ppo_shared", "sac", "td3"])
def test_every_encoder_is_trained_inside_every_learner(name: str, learner: str):
    encoder = TOKEN_ENCODERS[name]
    of_ppo = {"hidden": (8,), "batch_size": 64, "update_epochs": 2, "encoder": encoder, "entropy_coef": 0.01}
    module, data = {
        "ppo": lambda: (PPO(**of_ppo), rollouts()),
        "ppo_shared": lambda: (PPO(**of_ppo, share_encoder=True, normalize_observation=True), rollouts()),
        "sac": lambda: (SAC(hidden=(8,), encoder=encoder), replays()),
        "td3": lambda: (TD3(hidden=(8,), encoder=encoder, policy_delay=1), replays()),
    }[learner]()
    assert unmoved(module, data) == []


@pytest.mark.parametrize(
    "name",
    [name if name == "embodiment" else pytest.param(name, marks=pytest.mark.slow) for name in TOKEN_ENCODERS],
)
def test_robots_of_all_sizes_learn_together(name: str):
    """An episode returns about -6.3 at first, and -4.5 is beyond what chance and exploration give."""
    torch.manual_seed(0)
    module = PPO(
        hidden=(16,), batch_size=320, update_epochs=6, learning_rate=5e-3, gamma=0.9,
        encoder=TOKEN_ENCODERS[name], share_encoder=True,
    )  # fmt: skip
    data = RolloutDataModule(Joints, 64, 10, 8, eval_episodes=64, seed=1, check=False)
    assert fit(module, data, limit_val_batches=1.0).column("eval/return_mean")[-1] > -4.5


@pytest.mark.slow
@pytest.mark.parametrize("make", [SAC, TD3])
@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_robots_of_all_sizes_learn_together_off_policy(name: str, make: Any):
    torch.manual_seed(0)
    module = make(hidden=(32,), learning_rate=1e-3, gamma=0.9, tau=0.02, encoder=TOKEN_ENCODERS[name])
    data = ReplayDataModule(
        Joints, 8, steps_per_batch=8, batch_size=64, warmup_steps=256, capacity=5000, batches_per_epoch=24,
        eval_episodes=64, seed=5, check=False,
    )  # fmt: skip
    assert fit(module, data, limit_val_batches=1.0).column("eval/return_mean")[-1] > -4.0


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "64-true"])
def test_the_ratio_is_exactly_one_before_the_first_update(name: str, precision: Any):
    """Forward passes with gradients compute what those without do, in every precision."""
    module = WatchedPPO(hidden=(8,), batch_size=64, update_epochs=2, encoder=TOKEN_ENCODERS[name])
    data = RolloutDataModule(Joints, 4, 16, 2, eval_episodes=1, seed=1, check=False)
    fit(module, data, precision=precision)
    assert torch.stack(module.log_ratios[::2]).abs().max() == 0
    assert torch.stack(module.log_ratios[1::2]).abs().max() > 0
    dtype = torch.float64 if precision == "64-true" else torch.float32
    assert {p.dtype for p in module.parameters()} == {dtype}


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_every_encoder_sees_the_network_of_uavs_inside_hmasd(name: str):
    """Peers and users near a UAV for the actor, the whole network for the critic, with memory and skills."""
    near = partial(EntityReader, own=17, groups=[(4, 7), (10, 4)], radius=0.3)
    everything = partial(EntityReader, groups=[(5, 9), (50, 4), (1, 3)], radius=0.3)
    encoder = TOKEN_ENCODERS[name]
    if name == "embodiment":
        encoder = partial(encoder, description=None)
    module = HMASD(
        n_Z=2, n_z=2, k=4, hidden=(8,), embedding=8, gru=8, chunk_length=4, update_epochs=1, agent_ids=True,
        discriminator_epochs=1, encoder=partial(encoder, reader=near),
        critic_encoder=partial(encoder, reader=everything),
    )  # fmt: skip
    uavs = {"class_path": "lit_rl.envs.uav.network.UAVNetwork"}
    logger = fit(module, RolloutDataModule(uavs, 2, 8, 1, eval_episodes=1, seed=1, check=False))
    assert logger.column("loss/total")
    actor = module.discoverer.network.actor_encoder
    assert actor.out_features == 16
    assert actor.reader.num_tokens == 14
    assert module.discoverer.network.critic_encoder.reader.num_tokens == 56


# Off-policy


@pytest.mark.parametrize("name", TOKEN_ENCODERS)
def test_critics_know_which_joint_does_what(name: str):
    """A value moves with neither the order of joints nor what absent ones do, but with who does what."""
    torch.manual_seed(0)
    critics = Critics(joint_spec(4, with_links=True), [8], TOKEN_ENCODERS[name], 2)
    obs, action = robots(3, 4, (4,), with_links=True), torch.randn(3, 4)
    order = torch.tensor([2, 0, 3, 1])
    moved = {key: leaf[:, order] if "joint" in key else leaf for key, leaf in obs.items()}
    moved["joint_links"] = moved["joint_links"][:, :, order]
    assert_close(critics(moved, action[:, order]), critics(obs, action), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(critics(obs, action[:, order]), critics(obs, action), atol=1e-5)
    two = robots(3, 4, (2,), with_links=True)
    changed = torch.cat([action[:, :2], torch.randn(3, 2)], -1)
    assert torch.equal(critics(two, changed), critics(two, action))


def test_a_flat_critic_does_not_see_what_absent_joints_do():
    critics = Critics(joint_spec(4), [8], None, 2)
    obs, action = robots(3, 4, (2,)), torch.randn(3, 4)
    changed = torch.cat([action[:, :2], torch.randn(3, 2)], -1)
    assert torch.equal(critics(obs, changed), critics(obs, action))
    assert not torch.equal(critics(obs, action.flip(1)), critics(obs, action))


@pytest.mark.parametrize("make", [SAC, TD3])
def test_off_policy_actors_leave_absent_joints_alone(make: Any):
    module = make(hidden=(8,), encoder=TOKEN_ENCODERS["attention"], spec=joint_spec(4))
    module.configure_model()
    obs = robots(8, 4, (2, 4))
    for greedy in (True, False):
        with torch.no_grad():
            action = module.act(obs, {}, torch.zeros(8, dtype=torch.bool), greedy=greedy).action
        assert ((action != 0) == (obs["joint_mask"] != 0)).all()


def test_the_entropy_that_sac_keeps_is_that_of_a_joint():
    module = SAC(hidden=(8,), spec=joint_spec(4))
    module.configure_model()
    assert module.target_entropy == -1.0


def test_random_actions_leave_absent_joints_in_the_middle():
    spec = joint_spec(3)
    off_centre = EnvSpec("toy", spec.observation, ActionSpec("box", [3], low=[0.0] * 3, high=[4.0] * 3))
    obs = robots(50, 3, (1, 3))
    action: Tensor = UniformPolicy(off_centre).act(obs, {}, torch.zeros(50)).action
    assert (action[obs["joint_mask"] == 0] == 2.0).all()
    assert (action[obs["joint_mask"] == 1] != 2.0).all()
    box = ActionBox(off_centre, "SAC")
    assert_close(box.from_env(action[None])[0][obs["joint_mask"] == 0], torch.zeros(50))
    assert ActionBox(EnvSpec("e", LeafSpec([3]), off_centre.action), "SAC").exists(obs) is None


@pytest.mark.parametrize(
    ("learner", "name"), [("ppo", None), ("ppo", "gnn"), ("sac", "embodiment"), ("predictor", "attention")]
)
def test_an_exported_policy_moves_robots_of_all_sizes(tmp_path: Path, learner: str, name: str | None):
    encoder = None if name is None else TOKEN_ENCODERS[name]
    module, data = {
        "ppo": lambda: (PPO(hidden=(8,), batch_size=64, update_epochs=1, encoder=encoder), rollouts(1)),
        "sac": lambda: (SAC(hidden=(8,), encoder=encoder), replays(1)),
        "predictor": lambda: (Predictor(encoder, hidden=(8,), batch_size=64, update_epochs=1), rollouts(1)),
    }[learner]()
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    out = export_policy(tmp_path / "last.ckpt", tmp_path / "policy.pt2", encoder=encoder)
    policy = torch.export.load(out).module()
    obs = robots(7, 4, (2, 3, 4))
    with torch.no_grad():
        expected = module.act(obs, {}, torch.zeros(7, dtype=torch.bool), greedy=True).action
    assert_close(policy(obs), expected, rtol=1e-5, atol=1e-6)
    assert ((expected != 0) == (obs["joint_mask"] != 0)).all()


# An encoder alone


@pytest.mark.parametrize("name", [None, *TOKEN_ENCODERS])
def test_an_encoder_alone_learns_to_predict(name: str | None):
    torch.manual_seed(0)
    encoder = None if name is None else TOKEN_ENCODERS[name]
    module = Predictor(encoder, hidden=(32,), batch_size=64, update_epochs=8, learning_rate=3e-3)
    logger = fit(module, rollouts(6))
    of_network = {None: "encoder", "gnn": "gnn"}.get(name, "attention")
    assert {key for _, row in logger.rows for key in row if key.startswith("loss/")} == {f"loss/{of_network}"}
    error = logger.column("prediction/observation_error")
    assert error[-1] < 0.75 * error[0]
    assert error[-1] < 0.4  # 1 is the error of who knows nothing
