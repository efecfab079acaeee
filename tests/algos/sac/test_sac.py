from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lit_rl import SAC, ReplayDataModule
from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.vector import make_vector_env
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec
from tests.replay_toys import SPEC, Line, OneBatch, make_batch, train, unstacked
from tests.toys import (
    ContinuousEpisodes57,
    MatchingPair,
    MemoryLogger,
    Mixed,
    fit,
    make_trainer,
    parameters_of,
)


class Twin:
    """SAC as the paper writes it: separate networks, torch's distributions, loops over critics."""

    def __init__(self, module: SAC, learning_rate: float, tau: float) -> None:
        self.actor = copy.deepcopy(module.actor.network)
        self.critics = [unstacked(module.critics.network, c) for c in range(module.num_critics)]
        self.targets = copy.deepcopy(self.critics)
        self.log_alpha = module.log_temperature.detach().clone().requires_grad_()
        critic_parameters = [p for critic in self.critics for p in critic.parameters()]
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), learning_rate)
        self.critic_optimizer = torch.optim.Adam(critic_parameters, learning_rate)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], learning_rate)
        self.tau, self.ratio, self.updates = tau, module.critic_actor_ratio, 0
        self.policy_q, self.entropy_backup = module.policy_q, module.entropy_backup

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(obs).chunk(2, -1)
        normal = torch.distributions.Normal(mean, log_std.clamp(-20, 2).exp())
        u = normal.mean + normal.stddev * noise
        log_slope = torch.distributions.TanhTransform().log_abs_det_jacobian(u, u.tanh())
        return u.tanh(), (normal.log_prob(u) - log_slope).sum(-1)

    def update(self, batch: Any, m: int, noise: Tensor, subset: list[int]) -> None:
        obs, next_obs = batch["obs"][m], batch["next_obs"][m]
        action = batch["action"][m] / torch.tensor([2.0, 5.0]) - torch.tensor([0.0, 1.0])  # to [-1, 1]
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_action, next_log_prob = self.sample(next_obs, noise[0])
            pair = torch.cat([next_obs, next_action], -1)
            next_q = torch.stack([self.targets[c](pair).squeeze(-1) for c in subset]).min(0).values
            entropy = -alpha * next_log_prob if self.entropy_backup else 0.0
            y = batch["reward"][m] + batch["discount"][m] * (next_q + entropy)
        pair = torch.cat([obs, action], -1)
        critic_loss = sum(((critic(pair).squeeze(-1) - y) ** 2).mean() for critic in self.critics)
        self._step(self.critic_optimizer, critic_loss)
        self.updates += 1
        if self.updates % self.ratio == 0:
            self.update_actor(obs, noise, alpha)
        for critic, target in zip(self.critics, self.targets, strict=True):
            for p, p_target in zip(critic.parameters(), target.parameters(), strict=True):
                p_target.data.copy_((1 - self.tau) * p_target.data + self.tau * p.data)

    def update_actor(self, obs: Tensor, noise: Tensor, alpha: Tensor) -> None:
        new_action, log_prob = self.sample(obs, noise[1])
        pair = torch.cat([obs, new_action], -1)
        each = torch.stack([critic(pair).squeeze(-1) for critic in self.critics])
        q = each.mean(0) if self.policy_q == "mean" else each.min(0).values
        self._step(self.actor_optimizer, (alpha * log_prob - q).mean())
        self._step(self.alpha_optimizer, -(self.log_alpha.exp() * (log_prob.detach() - 2.0)).mean())

    def _step(self, optimizer: torch.optim.Optimizer, loss: Any) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def check_against_twin(num_updates: int, num_critics: int, **arguments: Any) -> None:
    module = SAC(
        (16, 16), 0.01, tau=0.1, initial_temperature=0.5, num_critics=num_critics, spec=SPEC, **arguments
    )
    module.configure_model()
    twin = Twin(module, 0.01, 0.1)
    batch = make_batch(num_updates)
    train(module, batch)
    torch.manual_seed(7)
    noise = torch.randn(2, num_updates, 16, 2)
    subsets = [list(range(num_critics))] * num_updates
    if module.target_subset is not None:
        subsets = torch.rand(num_updates, num_critics).argsort(1)[:, : module.target_subset].tolist()
    for m in range(num_updates):
        twin.update(batch, m, noise[:, m], subsets[m])

    close = partial(torch.testing.assert_close, rtol=0, atol=1e-5)
    close(parameters_of(module.actor), parameters_of(twin.actor))
    close(module.log_temperature.detach(), twin.log_alpha.detach())
    for ours, theirs in ((module.critics, twin.critics), (module.targets, twin.targets)):
        for c in range(num_critics):
            close(parameters_of(unstacked(ours.network, c)), parameters_of(theirs[c]))
    assert module.updates == num_updates
    assert module.env_steps == 8


@pytest.mark.parametrize("num_updates", [1, 4])
@pytest.mark.parametrize("num_critics", [2, 3])
def test_updates_equal_those_of_a_slow_twin(num_updates: int, num_critics: int):
    check_against_twin(num_updates, num_critics)


def test_updates_with_the_options_for_robots_equal_those_of_a_slow_twin():
    check_against_twin(5, 3, critic_layer_norm=True, critic_actor_ratio=2, initial_std=0.3)


REDQ: dict[str, Any] = {"target_subset": 2, "policy_q": "mean", "entropy_backup": False}


def test_updates_of_redq_equal_those_of_a_slow_twin():
    check_against_twin(5, 4, critic_actor_ratio=2, **REDQ)


@pytest.mark.parametrize("option", REDQ)
def test_each_option_of_redq_alone_equals_a_slow_twin_and_changes_what_is_learned(option: str):
    check_against_twin(2, 3, **{option: REDQ[option]})
    learned = []
    for arguments in ({}, {option: REDQ[option]}):
        torch.manual_seed(1)
        module = SAC((8,), 0.01, num_critics=3, spec=SPEC, **arguments)
        module.configure_model()
        train(module, make_batch(2))
        learned.append(torch.cat([parameters_of(module.critics), parameters_of(module.actor)]))
    assert not torch.equal(*learned)


@pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training")
def test_critics_targets_and_policy_see_dropout_also_in_a_learner_that_was_evaluated(
    monkeypatch: pytest.MonkeyPatch,
):
    seen = []
    monkeypatch.setattr(functional, "dropout", lambda h, p, training: seen.append((p, training)) or h)
    module = SAC((8, 8), critic_dropout=0.25, spec=SPEC)
    module.configure_model()
    module.eval()
    train(module, make_batch(1))
    assert seen == [(0.25, True)] * 6  # two layers of targets, critics, and critics for the policy


@pytest.mark.slow
def test_compiled_critics_leave_other_units_out_at_each_update_and_repeat_by_seed():
    """With a discount of 0 and a rate of almost 0 only dropout tells two updates apart."""
    losses = []
    for dropout, num_batches in ((0.0, 2), (0.5, 2), (0.5, 2)):
        torch.manual_seed(1)
        module = SAC((8, 8), 1e-12, critic_dropout=dropout, compile=True, spec=SPEC)
        module.configure_model()
        batch = make_batch(1)
        batch["discount"].zero_()
        logger = MemoryLogger()
        torch.manual_seed(2)
        loader = OneBatch(*[batch] * num_batches)
        make_trainer(logger=logger).fit(module, train_dataloaders=loader, val_dataloaders=OneBatch())
        losses.append(logger.column("loss/critic"))
    assert losses[0][0] == pytest.approx(losses[0][1])
    assert losses[1][0] != pytest.approx(losses[1][1], rel=1e-3)
    assert losses[1] == losses[2]


def test_the_actor_is_updated_at_every_nth_update_also_across_batches():
    module = SAC(hidden=(8,), critic_actor_ratio=4, spec=SPEC)
    module.configure_model()
    before = parameters_of(module.actor)
    train(module, make_batch(3))
    assert torch.equal(parameters_of(module.actor), before)
    assert "loss/policy" not in module.progress_metrics  # it was not computed
    assert "loss/critic" in module.progress_metrics
    temperature = module.log_temperature.item()
    train(module, make_batch(1))
    assert not torch.equal(parameters_of(module.actor), before)
    assert module.log_temperature.item() != temperature
    assert "loss/policy" in module.progress_metrics


def test_a_policy_begins_with_the_deviation_given():
    module = SAC(hidden=(32, 32), initial_std=0.2, spec=SPEC)
    module.configure_model()
    obs = torch.randn(500, *SPEC.observation.shape)
    mean, log_std = module.actor(obs)
    torch.testing.assert_close(log_std.exp(), torch.full_like(log_std, 0.2), rtol=0.02, atol=0)
    assert mean.abs().max() < 0.05


def test_normalised_observations_are_those_that_another_learner_is_given():
    torch.manual_seed(3)
    normalising = SAC((16, 16), 0.01, normalize_observation=True, spec=SPEC)
    normalising.configure_model()
    plain = SAC((16, 16), 0.01, spec=SPEC)
    plain.configure_model()
    plain.load_state_dict(normalising.state_dict(), strict=False)
    batch = make_batch(4)
    batch["new_obs"] = torch.randn(50, 3) * torch.tensor([0.1, 1.0, 10.0]) + 3
    deviation, mean = torch.std_mean(batch["new_obs"], 0, correction=0)
    normalised = copy.deepcopy(batch)
    for name in ("obs", "next_obs"):
        normalised[name] = ((batch[name] - mean) / deviation).clamp(-10, 10)
    train(normalising, batch)
    train(plain, normalised)
    for ours, theirs in ((normalising.actor, plain.actor), (normalising.targets, plain.targets)):
        torch.testing.assert_close(parameters_of(ours), parameters_of(theirs), rtol=0, atol=1e-5)
    obs, reset = batch["obs"][0], torch.zeros(16, dtype=torch.bool)
    acted = normalising.act(obs, {}, reset, greedy=True).action
    torch.testing.assert_close(acted, plain.act(normalised["obs"][0], {}, reset, greedy=True).action)


def test_each_env_step_counts_once_in_the_statistics_however_often_it_is_replayed():
    """Two environments play 4 steps at random, then 6 for each of two batches with 24 updates."""
    data = ReplayDataModule(
        ContinuousEpisodes57, 2, steps_per_batch=6, updates_per_step=2, batch_size=8, warmup_steps=8,
        batches_per_epoch=2, seed=6,
    )  # fmt: skip
    module = SAC(hidden=(4,), normalize_observation=True)
    fit(module, data)
    steps = [
        [k / 8, t / 8, 1.0]
        for start in range(2)
        for k, t in [(k, t) for k in range(start, start + 4) for t in range(7 if k % 2 else 5)][:16]
    ]
    seen = torch.tensor(steps, dtype=torch.float64)
    statistics: Any = module.observation_norm.norms["leaf:obs"]  # type: ignore[union-attr]
    assert statistics.count == 32
    torch.testing.assert_close(statistics.mean, seen.mean(0))
    torch.testing.assert_close(statistics.variance, seen.var(0, correction=0))
    ring = data.ring.get_state()["fields"]
    assert (ring["obs"][..., 2] == 1).all()  # as it was seen
    assert module.updates == 48


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [{}, REDQ])
def test_compiled_updates_equal_those_of_a_slow_twin(arguments: dict[str, Any]):
    check_against_twin(2, 3, compile=True, **arguments)


def test_targets_start_as_the_critics_and_follow_by_tau():
    module = SAC(hidden=(8,), tau=0.25, learning_rate=0.1, spec=SPEC)
    module.configure_model()
    start = parameters_of(module.critics)
    assert torch.equal(parameters_of(module.targets), start)
    train(module, make_batch())
    torch.testing.assert_close(
        parameters_of(module.targets), 0.75 * start + 0.25 * parameters_of(module.critics)
    )
    assert not any(p.requires_grad for p in module.targets.parameters())
    assert all(p.requires_grad for p in module.critics.parameters())  # freed again after the policy loss


@pytest.mark.parametrize(("target", "falls"), [(-1e3, True), (1e3, False)])
def test_temperature_falls_while_the_policy_is_too_random(target: float, falls: bool):
    module = SAC(hidden=(8,), target_entropy=target, learning_rate=0.01, spec=SPEC)
    module.configure_model()
    train(module, make_batch())
    assert module.log_temperature.item() == pytest.approx(
        -0.01 if falls else 0.01, rel=1e-4
    )  # Adam's first step


def test_a_fixed_temperature_stays():
    module = SAC(hidden=(8,), initial_temperature=0.3, learn_temperature=False, spec=SPEC)
    module.configure_model()
    train(module, make_batch(3))
    assert module.log_temperature.exp().item() == pytest.approx(0.3)
    assert "loss/temperature" not in module.progress_metrics
    assert module.progress_metrics["policy/temperature"] == pytest.approx(0.3)


def test_target_entropy_is_minus_the_number_of_actions():
    module = SAC(spec=SPEC)
    module.configure_model()
    assert module.target_entropy == -2.0
    module = SAC(target_entropy=-0.5, spec=SPEC)
    module.configure_model()
    assert module.target_entropy == -0.5


@torch.no_grad()
def test_actions_are_in_the_units_of_the_environment():
    module = SAC(hidden=(8,), spec=SPEC)
    module.configure_model()
    module.actor.network[-1].weight.zero_()
    module.actor.network[-1].bias.copy_(
        torch.tensor([0.0, 0.0, 2.0, 2.0])
    )  # wide: squashed samples reach the bounds
    obs, reset = torch.zeros(1000, 3), torch.zeros(1000, dtype=torch.bool)
    action = module.act(obs, {}, reset).action
    assert torch.allclose(action.amin(0), torch.tensor([-2.0, 0.0]), atol=0.05)
    assert torch.allclose(action.amax(0), torch.tensor([2.0, 10.0]), atol=0.05)
    greedy = module.act(obs, {}, reset, greedy=True).action
    assert torch.allclose(greedy, torch.tensor([0.0, 5.0]))


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_trains_on_dict_observations_and_actions_of_two_axes(precision: str):
    data = ReplayDataModule(
        partial(Mixed, "box"), 2, steps_per_batch=4, batch_size=8, warmup_steps=8, batches_per_epoch=2
    )
    module = SAC(hidden=(8,))
    fit(module, data, precision=precision)
    assert module.updates == 16
    env = make_vector_env(partial(Mixed, "box"), 2)
    rollout = InlineCollector(env, 0).collect(module, 3, 0)
    assert rollout["action"].shape == (3, 2, 2, 3)


def test_learns_the_better_of_two_ends():
    data = ReplayDataModule(Line, 4, steps_per_batch=16, batch_size=32, warmup_steps=64, batches_per_epoch=8)
    module = SAC(hidden=(16,), learning_rate=0.01, tau=0.05)
    logger = fit(module, data)
    assert logger.column("episode/return_mean")[0] < 6.5
    assert module.act(torch.zeros(1, 1), {}, torch.ones(1, dtype=torch.bool), greedy=True).action.item() > 8


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -1.0}, "SAC: learning_rate = -1.0, expected 0 < learning_rate <= 1"),
        ({"gamma": 0.0}, "SAC: gamma = 0.0, expected 0 < gamma <= 1"),
        ({"tau": 0.0}, "SAC: tau = 0.0, expected 0 < tau <= 1"),
        ({"initial_temperature": 0.0}, "SAC: initial_temperature = 0.0, expected initial_temperature > 0"),
        ({"num_critics": 0}, "SAC: num_critics = 0, expected 1 <= num_critics"),
        ({"critic_dropout": 1.0}, "SAC: critic_dropout = 1.0, expected 0 <= critic_dropout < 1"),
        ({"target_subset": 0}, "SAC: target_subset = 0, expected 1 <= target_subset"),
        ({"target_subset": 3}, "SAC: target_subset = 3 must be at most num_critics = 2, of which it is draw"),
        ({"policy_q": "max"}, "SAC: policy_q = 'max', expected min or mean"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        SAC(**arguments)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            MatchingPair(1).spec,
            r"SAC needs continuous actions \(Box\), MatchingPair has discrete ones; use PPO",
        ),
        (
            EnvSpec("Free", LeafSpec([1]), ActionSpec("box", [1], low=[float("-inf")], high=[1.0])),
            r"SAC needs finite action bounds; entry \[0\] of the action of Free goes from -inf to 1.0: decl",
        ),
        (
            EnvSpec("Team", LeafSpec([1]), ActionSpec("box", [1], low=[0.0], high=[1.0]), ["a", "b"]),
            "SAC acts for one agent, Team has 2; use PPO",
        ),
    ],
)
def test_environments_it_cannot_act_in(spec: EnvSpec, message: str):
    with pytest.raises(ValueError, match=message):
        SAC(spec=spec).configure_model()


def test_replay_data_for_a_learner_without_gamma():
    module = SAC(hidden=(4,))
    del module.gamma
    with pytest.raises(TypeError, match=r"ReplayDataModule needs a learner .* got SAC, which has no gamma"):
        fit(module, ReplayDataModule(ContinuousEpisodes57, warmup_steps=8))
