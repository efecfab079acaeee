from __future__ import annotations

from functools import partial
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lit_rl import PPO, RolloutDataModule
from lit_rl.algos.module import linear_schedule
from lit_rl.collect.inline import InlineCollector
from lit_rl.envs.vector import make_vector_env
from lit_rl.nets import Flatten
from lit_rl.normalize import ObservationNorm
from lit_rl.types import ActionSpec, EnvSpec, LeafSpec, Rollout
from tests.toys import Bandit, Episodes57, MatchingPair, Mixed, WatchedPPO, fit, parameters_of, samples_of


def small(env: Any = Episodes57, **kwargs: Any) -> RolloutDataModule:
    defaults: dict[str, Any] = {"num_envs": 4, "rollout_steps": 16, "rollouts_per_epoch": 2}
    return RolloutDataModule(env, **(defaults | kwargs))


# Observations and actions


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("action", ["discrete", "multi", "box"])
@pytest.mark.parametrize("gru", [None, 8])
def test_every_kind_of_observation_and_action(action: str, mask: bool, gru: int | None):
    if action == "box" and mask:
        return
    module = WatchedPPO(hidden=(8,), batch_size=64, update_epochs=1, gru=gru, normalize_observation=True)
    fit(module, small(partial(Mixed, action, mask)))
    assert module.policy_version == 2
    assert torch.stack(module.log_ratios).abs().max() < 1e-5
    assert min(module.moved) > 0


@pytest.mark.parametrize("action", ["discrete", "multi"])
def test_masked_actions_are_never_taken(action: str):
    env = make_vector_env(partial(Mixed, action, mask=True), 8)
    module = PPO(hidden=(8,), spec=env.spec)
    module.configure_model()
    with torch.no_grad():
        rollout = InlineCollector(env, 0).collect(module, 100, 0)
        samples, _ = samples_of(module, rollout)
        chosen = rollout["action"].view(800, -1)
        mask = rollout["obs"]["action_mask"][:-1].view(800, -1)  # type: ignore[index]
        assert mask[:, :4].gather(1, chosen[:, :1]).all()
        assert mask.logical_not().any(1).all() or action == "discrete"
        if action == "multi":
            assert (chosen[:, 1] == 0).all()
        # the log-probability is that of the masked policy
        obs = samples["obs"]
        logits = module.policy.network.actor(module.policy.network.actor_encoder(obs))[:, :4]
        twin = torch.distributions.Categorical(logits=logits.masked_fill(mask[:, :4] == 0, -torch.inf))
        torch.testing.assert_close(samples["log_prob"], twin.log_prob(chosen[:, 0]))
        greedy = module.act(rollout["obs"], {}, rollout["reset"], greedy=True).action  # (T+1, N)
        all_masks = rollout["obs"]["action_mask"]  # type: ignore[index]
        assert all_masks[..., :4].gather(-1, greedy.reshape(101, 8, -1)[..., :1]).all()


def test_learns_from_a_discrete_leaf_of_a_dict_observation():
    """The action that equals the observed goal is rewarded; one-hot features make that one layer."""
    module = PPO(
        hidden=(32,),
        batch_size=128,
        update_epochs=5,
        learning_rate=0.01,
        gamma=0.5,
        normalize_observation=True,
    )
    logger = fit(module, small(Mixed, num_envs=16, rollout_steps=16, rollouts_per_epoch=25))
    assert logger.column("episode/return_mean")[0] < 2.5  # 6 steps, chance 1/4
    assert sum(list(module.recent_episodes.returns)[-20:]) / 20 > 5


def test_box_actions_of_any_shape_and_their_bounds():
    """Actions are recorded as drawn and clipped by the environment only."""
    env = make_vector_env(partial(Mixed, "box"), 4)
    module = PPO(hidden=(8,), spec=env.spec)
    module.configure_model()
    rollout = InlineCollector(env, 0).collect(module, 50, 0)
    assert rollout["action"].shape == (50, 4, 2, 3)
    assert rollout["action"].abs().max() > 1.5
    with torch.no_grad():
        samples, _ = samples_of(module, rollout)
        mean = module.policy.network.actor(module.policy.network.actor_encoder(samples["obs"]))
    assert module.policy.network.log_std is not None
    twin = torch.distributions.Normal(mean, module.policy.network.log_std.detach().exp())
    expected = twin.log_prob(rollout["action"].view(200, 6)).sum(-1)
    torch.testing.assert_close(samples["log_prob"], expected)


class TwoLayers(nn.Module):
    def __init__(self, spec: EnvSpec, width: int = 5) -> None:
        super().__init__()
        self.flatten = Flatten(spec)
        self.linear = nn.Linear(self.flatten.out_features, width)
        self.out_features = width

    def forward(self, obs: Any) -> Tensor:
        return self.linear(self.flatten(obs)).tanh()


@pytest.mark.parametrize("share_encoder", [False, True])
def test_an_encoder_is_given_as_a_callable(share_encoder: bool):
    module = WatchedPPO(
        hidden=(8,), batch_size=64, encoder=partial(TwoLayers, width=7), share_encoder=share_encoder
    )
    fit(module, small(Mixed))
    actor, critic = module.policy.network.actor_encoder, module.policy.network.critic_encoder
    assert (actor is critic) == share_encoder
    assert actor.out_features == 7
    (optimizer,) = module.raw_optimizers()
    assert optimizer.flat.tensor.numel() == sum(p.numel() for p in module.policy.network.parameters())
    assert module.log_ratios[0].abs().max() == 0


def constant_pair() -> PPO:
    module = PPO(hidden=(4,), spec=MatchingPair(1).spec)
    module.configure_model()
    return module


# Normalisation


def test_observation_statistics_are_frozen_within_a_rollout_and_exact_after():
    seen, means = [], []

    class Spy(PPO):
        def training_step(self, rollout: Rollout, batch_idx: int) -> None:
            norm = cast(ObservationNorm, self.policy.observation_norm).norms["leaf:obs"]
            before = norm.mean.clone()
            means.append(before)
            optimize = self.policy.optimize

            def checked(*args: Any) -> Any:
                result = optimize(*args)
                assert torch.equal(norm.mean, before)  # frozen during the update, too
                return result

            self.policy.optimize = checked
            super().training_step(rollout, batch_idx)
            del self.policy.optimize
            seen.append(rollout["obs"][:-1].flatten(0, 1).numpy())

    module = Spy(hidden=(8,), batch_size=32, normalize_observation=True)
    fit(module, small(rollouts_per_epoch=3))
    norm = cast(ObservationNorm, module.policy.observation_norm).norms["leaf:obs"]
    everything = np.concatenate(seen)
    assert norm.count == len(everything) == 192
    np.testing.assert_allclose(norm.mean, everything.mean(0), rtol=1e-6)
    np.testing.assert_allclose(norm.variance, everything.var(0), rtol=1e-6, atol=1e-12)
    assert (means[0] == 0).all()
    np.testing.assert_allclose(means[1], seen[0].mean(0), rtol=1e-6)


def test_actions_begin_with_the_deviation_given():
    box = ActionSpec("box", [2], low=[-1, -1], high=[1, 1])
    module = PPO(initial_std=0.25, spec=EnvSpec("x", LeafSpec([3]), box))
    module.configure_model()
    torch.manual_seed(0)
    action = module.act(torch.zeros(4000, 3), {}, torch.ones(4000, dtype=torch.bool)).action
    torch.testing.assert_close(action.std(0), torch.full((2,), 0.25), rtol=0.05, atol=0)
    module = PPO(initial_std=0.25, spec=EnvSpec("x", LeafSpec([3]), ActionSpec("discrete", categories=[2])))
    with pytest.raises(
        ValueError, match=r"initial_std = 0.25 needs continuous actions \(Box\), x has discrete"
    ):
        module.configure_model()


def test_returns_are_scaled_by_the_spread_of_the_discounted_return():
    env = make_vector_env(Episodes57, 2)
    module = PPO(hidden=(8,), spec=env.spec, gamma=0.9, gae_lambda=1.0, normalize_return=True)
    module.configure_model()
    nn.init.zeros_(
        module.policy.network.critic[-1].weight
    )  # values are 0, so that advantages are sums of scaled rewards
    collector = InlineCollector(env, 0)
    running, past = np.zeros(2), []
    for _ in range(2):
        rollout = collector.collect(module, 20, 0)
        samples, _ = samples_of(module, rollout)
        reward = rollout["reward"].numpy()
        done = (rollout["terminated"] | rollout["truncated"]).numpy()
        for t in range(20):
            running = 0.9 * running + reward[t]
            past.append(running)
            running = np.where(done[t], 0, running)
        scaled = np.clip(reward / np.sqrt(np.var(past) + 1e-8), -10, 10)
        advantage, following = np.zeros((20, 2)), np.zeros(2)
        for t in reversed(range(20)):
            following = scaled[t] + 0.9 * np.where(done[t], 0, following)
            advantage[t] = following
        np.testing.assert_allclose(samples["advantage"].detach().view(20, 2), advantage, rtol=1e-5)


def test_running_returns_are_saved_per_rank():
    module = PPO(hidden=(4,), normalize_return=True, batch_size=64)
    fit(module, small())
    state = module.local_state()
    assert state["return_scale"]["return_N"].shape == (4,)
    other = PPO(hidden=(4,), normalize_return=True, spec=module.spec)
    other.configure_model()
    other.load_local_state(state)
    assert torch.equal(other.local_state()["return_scale"]["return_N"], state["return_scale"]["return_N"])
    assert constant_pair().local_state() == {}


# The update


def test_one_update_against_a_straight_line_twin():
    """Two epochs over the whole rollout with torch's plain Adam, autograd and distributions."""
    data = small(rollouts_per_epoch=1)
    arguments: dict[str, Any] = {"gamma": 0.9, "gae_lambda": 0.8, "clip_value": 0.1, "entropy_coef": 0.02}
    kept: list[Any] = []

    class Kept(PPO):
        def training_step(self, rollout: Rollout, batch_idx: int) -> None:
            kept.extend([rollout, [p.detach().clone() for p in self.policy.network.parameters()]])
            super().training_step(rollout, batch_idx)

    module = Kept(
        hidden=(8,), batch_size=64, update_epochs=2, learning_rate=0.01, max_grad_norm=0.3, **arguments
    )
    logger = fit(module, data)
    rollout, weights = kept
    twin = PPO(hidden=(8,), spec=module.spec)
    twin.configure_model()
    parameters = list(twin.policy.network.parameters())
    for parameter, weight in zip(parameters, weights, strict=True):
        parameter.data.copy_(weight)

    obs, action = rollout["obs"], rollout["action"]
    value = twin.policy.network.critic(obs).squeeze(-1).detach()  # (17, 4)
    final = dict(zip(rollout["final_index"].tolist(), rollout["final_obs"], strict=True))
    advantage = torch.zeros(16, 4)
    for n in range(4):
        following = 0.0
        for t in reversed(range(16)):
            ended = bool(rollout["terminated"][t, n] or rollout["truncated"][t, n])
            next_value = (
                twin.policy.network.critic(final[t * 4 + n]).item() if ended else value[t + 1, n].item()
            )
            next_value *= not rollout["terminated"][t, n]
            delta = rollout["reward"][t, n].item() + 0.9 * next_value - value[t, n].item()
            following = delta + 0.9 * 0.8 * (0.0 if ended else following)
            advantage[t, n] = following
    target = advantage + value[:-1]
    normalized = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    old = None
    optimizer = torch.optim.Adam(parameters, 0.01, eps=1e-5)
    policy_losses, value_losses = [], []
    for _ in range(2):
        policy = torch.distributions.Categorical(logits=twin.policy.network.actor(obs[:-1]))
        log_prob = policy.log_prob(action)
        old = log_prob.detach() if old is None else old
        ratio = (log_prob - old).exp()
        policy_loss = -torch.min(ratio * normalized, ratio.clamp(0.8, 1.2) * normalized).mean()
        new_value = twin.policy.network.critic(obs[:-1]).squeeze(-1)
        near = value[:-1] + (new_value - value[:-1]).clamp(-0.1, 0.1)
        value_loss = torch.max((new_value - target).square(), (near - target).square()).mean()
        optimizer.zero_grad()
        (policy_loss + 0.5 * value_loss - 0.02 * policy.entropy().mean()).backward()
        nn.utils.clip_grad_norm_(parameters, 0.3)
        optimizer.step()
        policy_losses.append(policy_loss.item())
        value_losses.append(value_loss.item())
    torch.testing.assert_close(
        parameters_of(module.policy.network), parameters_of(twin.policy.network), rtol=1e-4, atol=1e-6
    )
    assert logger.column("loss/policy") == [pytest.approx(np.mean(policy_losses), abs=1e-6)]
    assert logger.column("loss/value") == [pytest.approx(np.mean(value_losses), rel=1e-5)]


def test_target_kl_stops_the_epochs():
    runs = {}
    for target_kl in (None, 1e-9, 1e9):
        torch.manual_seed(0)
        module = PPO(hidden=(8,), batch_size=32, update_epochs=5, learning_rate=0.01, target_kl=target_kl)
        runs[target_kl] = fit(module, small()).column("update/epochs")
    assert runs == {None: [5, 5], 1e-9: [1, 1], 1e9: [5, 5]}


def test_the_entropy_bonus_keeps_the_policy_random():
    """Without rewards that depend on actions only the bonus moves a policy that prefers one of them."""
    entropies = []
    for entropy_coef in (0.0, 1.0):
        torch.manual_seed(0)
        data = small(rollouts_per_epoch=4, seed=6)
        module = PPO(
            hidden=(8,), batch_size=64, learning_rate=0.01, entropy_coef=entropy_coef, spec=data.spec
        )
        module.configure_model()
        with torch.no_grad():
            module.policy.network.actor[-1].bias[0] += 1.5
        entropies.append(fit(module, data).column("policy/entropy")[-1])
    assert entropies[0] < 0.55 < entropies[1] <= np.log(2) + 1e-6


def test_annealing_is_linear_in_env_steps():
    module = PPO(hidden=(8,), batch_size=64, learning_rate=0.01, anneal_env_steps=256)
    logger = fit(module, small(rollouts_per_epoch=6))
    assert logger.column("policy/learning_rate") == pytest.approx([0.01, 0.0075, 0.005, 0.0025, 0.0, 0.0])
    assert [linear_schedule(steps, 100) for steps in (0, 25, 100, 500)] == [1, 0.75, 0, 0]
    assert linear_schedule(10**9, None) == 1


def test_nothing_moves_at_the_end_of_annealing():
    module = WatchedPPO(hidden=(8,), batch_size=64, learning_rate=0.01, anneal_env_steps=64)
    fit(module, small())
    assert module.moved[0] > 0
    assert module.moved[1] == 0


def test_equal_returns_are_no_error():
    """A solved task gives every episode the same return: nothing is left to explain, and training goes on."""
    module = PPO(hidden=(8,), batch_size=64)
    logger = fit(module, small(Bandit))
    assert module.policy_version == 2
    assert logger.column("value/explained_variance") == []  # of no variance


def test_a_loss_that_is_not_finite_is_named():
    module = PPO(hidden=(8,), batch_size=64, value_coef=3e38, max_grad_norm=None)
    message = r"loss/\w+ became (nan|inf) in the update after \d+ env steps .*; lower the learning rate"
    with pytest.raises(FloatingPointError, match=message):
        fit(module, small(rollouts_per_epoch=5))


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"learning_rate": 0.0}, "PPO: learning_rate = 0.0, expected 0 < learning_rate <= 1"),
        ({"batch_size": 0}, "PPO: batch_size = 0, expected batch_size >= 1"),
        ({"update_epochs": 0}, "PPO: update_epochs = 0, expected 1 <= update_epochs"),
        ({"gamma": 1.1}, "PPO: gamma = 1.1, expected 0 < gamma <= 1"),
        ({"gae_lambda": -0.1}, "PPO: gae_lambda = -0.1, expected 0 <= gae_lambda <= 1"),
        ({"clip": 0}, "PPO: clip = 0, expected 0 < clip <= 1"),
        ({"agent_ids": "actor"}, "PPO: agent_ids = actor needs a central critic"),
        ({"share_encoder": True}, "PPO: share_encoder = true contradicts encoder = null"),
        ({"clip_value": 0.0}, "PPO: clip_value = 0.0, expected clip_value > 0, or null"),
        ({"batch_size": 1}, "PPO: batch_size = 1 contradicts normalize_advantage = true"),
        ({"huber_delta": 0.0}, "PPO: huber_delta = 0.0, expected huber_delta > 0, or null"),
        (
            {"share_encoder": True, "central_critic": True, "encoder": TwoLayers},
            "PPO: share_encoder = true contradicts central_critic = true",
        ),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PPO(**arguments)


@pytest.mark.parametrize("batch_size", [48, 128])
def test_a_batch_that_does_not_divide_the_rollout(batch_size: int):
    with pytest.raises(
        ValueError, match=f"batch_size = {batch_size} must divide 64, the transitions of a rollout"
    ):
        fit(PPO(hidden=(4,), batch_size=batch_size), small())


@pytest.mark.parametrize(
    ("chunk_length", "batch_size", "message"),
    [
        (5, 20, "chunk_length = 5 must divide rollout_steps = 16"),
        (16, 24, "batch_size = 24 must be a multiple of 16: the agents of an environment"),
        (8, 24, "batch_size = 24 must divide 64, the transitions of a rollout"),
    ],
)
def test_chunks_that_do_not_divide(chunk_length: int, batch_size: int, message: str):
    with pytest.raises(ValueError, match=message):
        fit(PPO(hidden=(4,), gru=4, chunk_length=chunk_length, batch_size=batch_size), small())


# Compiled


@pytest.mark.slow
@pytest.mark.parametrize("gru", [None, 4])
def test_compiled_and_eager_updates_are_equal(gru: int | None):
    finals, losses = [], []
    for compile in (False, True):
        torch.manual_seed(0)
        module = PPO(hidden=(8,), batch_size=32, update_epochs=2, clip_value=0.2, entropy_coef=0.01, gru=gru,
                     chunk_length=4, anneal_env_steps=1000, compile=compile)  # fmt: skip
        logger = fit(module, small(rollouts_per_epoch=1))
        finals.append(parameters_of(module))
        losses.append(logger.column("loss/policy") + logger.column("loss/value"))
    torch.testing.assert_close(finals[1], finals[0], rtol=0, atol=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=1e-4, abs=1e-6)
