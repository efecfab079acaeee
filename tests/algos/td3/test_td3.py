from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl import TD3, ReplayDataModule
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, ReplayBatch
from tests.replay_toys import SPEC, Line, make_batch, train, unstacked
from tests.toys import MatchingPair, Mixed, fit, parameters_of


def make(**arguments: Any) -> TD3:
    """A small learner whose networks are built."""
    module = TD3(**({"hidden": (16, 16), "learning_rate": 0.01, "tau": 0.1, "spec": SPEC} | arguments))
    module.configure_model()
    return module


class Twin:
    """TD3 as its algorithm 1 writes it: separate networks, ordinary Adams, loops over critics."""

    def __init__(self, module: TD3) -> None:
        self.actor = copy.deepcopy(module.actor.network)
        self.critics = [unstacked(module.critics.network, c) for c in range(module.num_critics)]
        self.target_actor, self.targets = copy.deepcopy(self.actor), copy.deepcopy(self.critics)
        critic_parameters = [p for critic in self.critics for p in critic.parameters()]
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), module.learning_rate)
        self.critic_optimizer = torch.optim.Adam(critic_parameters, module.learning_rate)
        self.settings = module
        self.t = 0
        self.policy_losses: list[float] = []

    def update(self, batch: ReplayBatch, m: int, noise: Tensor) -> None:
        settings, obs, next_obs = self.settings, batch["obs"][m], batch["next_obs"][m]
        action = batch["action"][m] / torch.tensor([2.0, 5.0]) - torch.tensor([0.0, 1.0])  # to [-1, 1]
        with torch.no_grad():
            clip = settings.target_noise_clip
            epsilon = torch.clip(settings.target_policy_noise * noise, -clip, clip)
            next_action = torch.clip(torch.tanh(self.target_actor(next_obs)) + epsilon, -1, 1)
            pair = torch.cat([next_obs, next_action], -1)
            next_q = torch.stack([target(pair).squeeze(-1) for target in self.targets]).min(0).values
            y = batch["reward"][m] + batch["discount"][m] * next_q
        pair = torch.cat([obs, action], -1)
        critic_loss = sum(((critic(pair).squeeze(-1) - y) ** 2).mean() for critic in self.critics)
        self._step(self.critic_optimizer, critic_loss)
        self.t += 1
        if self.t % settings.policy_delay:
            return
        loss = -self.critics[0](torch.cat([obs, torch.tanh(self.actor(obs))], -1)).mean()
        self._step(self.actor_optimizer, loss)
        self.policy_losses.append(loss.item())
        pairs = [(self.actor, self.target_actor), *zip(self.critics, self.targets, strict=True)]
        for network, target in pairs:
            for p, p_target in zip(network.parameters(), target.parameters(), strict=True):
                p_target.data.copy_((1 - settings.tau) * p_target.data + settings.tau * p.data)

    def _step(self, optimizer: torch.optim.Optimizer, loss: Any) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def check_against_twin(num_updates: int, **arguments: Any) -> None:
    module = make(**arguments)
    twin, batch = Twin(module), make_batch(num_updates)
    train(module, batch)
    torch.manual_seed(7)
    for m, noise in enumerate(torch.randn(num_updates, 16, 2)):
        twin.update(batch, m, noise)

    close = partial(torch.testing.assert_close, rtol=0, atol=1e-5)
    close(parameters_of(module.actor), parameters_of(twin.actor))
    close(parameters_of(module.target_actor), parameters_of(twin.target_actor))
    for ours, theirs in ((module.critics, twin.critics), (module.target_critics, twin.targets)):
        for c in range(module.num_critics):
            close(parameters_of(unstacked(ours.network, c)), parameters_of(theirs[c]))
    mean = sum(twin.policy_losses) / len(twin.policy_losses)
    assert module.progress_metrics["loss/policy"] == pytest.approx(mean, abs=1e-5)
    assert module.updates == num_updates
    assert module.env_steps == 8


@pytest.mark.parametrize(("num_updates", "policy_delay"), [(1, 1), (4, 2), (5, 3)])
@pytest.mark.parametrize("num_critics", [2, 3])
def test_updates_equal_those_of_a_slow_twin(num_updates: int, policy_delay: int, num_critics: int):
    check_against_twin(num_updates, policy_delay=policy_delay, num_critics=num_critics)


def test_much_noise_that_is_clipped_equals_that_of_a_slow_twin():
    check_against_twin(2, target_policy_noise=2.0, target_noise_clip=0.7)


@pytest.mark.slow
def test_compiled_updates_equal_those_of_a_slow_twin():
    check_against_twin(4, compile=True)


def test_losses_by_hand():
    """All weights 0, so that every critic says its last bias: 1 and 3, the targets' as well."""
    module = make(hidden=(), learning_rate=1e-9, policy_delay=1)
    for network in (module.actor, module.target_actor, module.critics, module.target_critics):
        for parameter in network.parameters():
            parameter.data.zero_()
    for critics in (module.critics, module.target_critics):
        critics.network.biases[-1].data[:, 0, 0] = torch.tensor([1.0, 3.0])
    batch = make_batch(1, 2)
    batch["reward"], batch["discount"] = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 0.0]])
    train(module, batch)
    logged = module.progress_metrics  # targets 2 + 0.5 * min(1, 3) = 2.5 and -1
    assert logged["loss/critic"] == pytest.approx((1.5**2 + 2**2) / 2 + (0.5**2 + 4**2) / 2)
    assert logged["value/q_mean"] == pytest.approx(2.0)
    assert logged["loss/policy"] == pytest.approx(-1.0)


# What each argument changes


def test_policy_delay_holds_policy_and_targets_back():
    module = make(policy_delay=3)
    networks = [module.actor, module.target_actor, module.target_critics]
    start, critics = [parameters_of(network) for network in networks], parameters_of(module.critics)
    train(module, make_batch(2))
    assert all(torch.equal(parameters_of(n), before) for n, before in zip(networks, start, strict=True))
    assert not torch.equal(parameters_of(module.critics), critics)
    assert "loss/policy" not in module.progress_metrics
    assert all(p.requires_grad for p in module.critics.parameters())
    train(module, make_batch(1))  # the third update, although the first of its batch
    assert not any(torch.equal(parameters_of(n), before) for n, before in zip(networks, start, strict=True))
    assert "loss/policy" in module.progress_metrics
    assert all(p.requires_grad for p in module.critics.parameters())  # freed again after the policy loss


def test_targets_start_as_their_networks_and_follow_by_tau():
    module = make(policy_delay=1, tau=0.25)
    pairs = [(module.actor, module.target_actor), (module.critics, module.target_critics)]
    start = [parameters_of(network) for network, _ in pairs]
    assert all(torch.equal(parameters_of(t), before) for (_, t), before in zip(pairs, start, strict=True))
    train(module, make_batch())
    for (network, target), before in zip(pairs, start, strict=True):
        torch.testing.assert_close(parameters_of(target), 0.75 * before + 0.25 * parameters_of(network))
        assert not any(p.requires_grad for p in target.parameters())


def critic_after_an_update(**arguments: Any) -> Tensor:
    """Parameters of the critics after one update, which differs by ``arguments`` alone."""
    torch.manual_seed(3)
    module, batch = make(**arguments), make_batch()
    train(module, batch)
    return parameters_of(module.critics)


def test_target_policy_noise_and_its_clip_change_what_critics_learn():
    without = critic_after_an_update(target_policy_noise=0.0)
    assert not torch.equal(critic_after_an_update(target_policy_noise=0.2), without)
    assert torch.equal(critic_after_an_update(target_policy_noise=0.2, target_noise_clip=0.0), without)
    assert not torch.equal(
        critic_after_an_update(target_noise_clip=0.1), critic_after_an_update(target_noise_clip=0.5)
    )
    assert torch.equal(
        critic_after_an_update(target_noise_clip=10.0), critic_after_an_update(target_noise_clip=20.0)
    )


@torch.no_grad()
def test_exploration_noise_is_in_shares_of_half_the_range():
    """An actor in the middle of the range, whose noise is clipped at the bounds only where it is wide."""
    obs, reset = torch.zeros(4000, 3), torch.zeros(4000, dtype=torch.bool)
    for noise, spread in ((0.1, torch.tensor([0.2, 0.5])), (0.0, torch.zeros(2))):
        module = make(exploration_noise=noise)
        for parameter in module.actor.parameters():
            parameter.zero_()
        action = module.act(obs, {}, reset).action
        torch.testing.assert_close(action.std(0), spread, rtol=0.05, atol=1e-6)
        greedy = module.act(obs, {}, reset, greedy=True).action
        assert torch.equal(greedy, torch.tensor([0.0, 5.0]).expand(4000, 2))
    module.exploration_noise = 10.0
    action = module.act(obs, {}, reset).action
    assert action.amin(0).tolist() == [-2.0, 0.0]
    assert action.amax(0).tolist() == [2.0, 10.0]


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed"])
def test_trains_on_dict_observations_and_actions_of_two_axes(precision: str):
    data = ReplayDataModule(
        partial(Mixed, "box"), 2, steps_per_batch=4, batch_size=8, warmup_steps=8, batches_per_epoch=2
    )
    module = TD3(hidden=(8,))
    fit(module, data, precision=precision)
    assert module.updates == 16


def test_learns_the_better_of_two_ends():
    data = ReplayDataModule(Line, 4, steps_per_batch=16, batch_size=32, warmup_steps=64, batches_per_epoch=8)
    module = TD3(hidden=(16,), learning_rate=0.01, tau=0.05)
    logger = fit(module, data)
    assert logger.column("episode/return_mean")[0] < 6.5
    assert module.act(torch.zeros(1, 1), {}, torch.ones(1, dtype=torch.bool), greedy=True).action.item() > 8


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": -1.0}, "TD3: learning_rate = -1.0, expected 0 < learning_rate <= 1"),
        ({"tau": 0.0}, "TD3: tau = 0.0, expected 0 < tau <= 1"),
        ({"policy_delay": 0}, "TD3: policy_delay = 0, expected policy_delay >= 1"),
        ({"target_policy_noise": -0.1}, "TD3: target_policy_noise = -0.1, expected target_policy_noise >= 0"),
        ({"target_noise_clip": -0.1}, "TD3: target_noise_clip = -0.1, expected target_noise_clip >= 0"),
        ({"exploration_noise": -0.1}, "TD3: exploration_noise = -0.1, expected exploration_noise >= 0"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TD3(**arguments)


def test_environments_it_cannot_act_in():
    message = r"TD3 needs continuous actions \(Box\), MatchingPair has discrete ones; use PPO"
    with pytest.raises(ValueError, match=message):
        TD3(spec=MatchingPair(1).spec).configure_model()
    spec = EnvSpec("Free", LeafSpec([1]), ActionSpec("box", [1], low=[float("-inf")], high=[1.0]))
    with pytest.raises(ValueError, match=r"TD3 needs finite action bounds; entry .* of Free goes from -inf"):
        TD3(spec=spec).configure_model()
