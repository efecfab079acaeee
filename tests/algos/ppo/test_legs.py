"""Options of PPO for legged robots: a learning rate that follows KL, and samples seen in a mirror."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lit_rl import PPO, RolloutDataModule
from lit_rl.algos.ppo.symmetry import reflect
from lit_rl.envs.go2 import Go2Batch
from lit_rl.losses import adapted_rate
from lit_rl.ranks import Ranks
from lit_rl.types import EnvSpec, Mirror
from tests.cases import GO2, ppo_legs
from tests.toys import make_trainer


@pytest.mark.parametrize(
    ("rate", "kl", "expected"),
    [
        (3e-4, 0.021, 2e-4),  # above twice 0.01
        (3e-4, 0.02, 3e-4),
        (3e-4, 0.005, 3e-4),
        (3e-4, 0.0049, 4.5e-4),
        (1.2e-5, 1.0, 1e-5),  # within its limits
        (9e-3, 0.0, 1e-2),
    ],
)
def test_the_rate_follows_kl_by_hand(rate: float, kl: float, expected: float):
    assert adapted_rate(rate, kl, wanted=0.01) == pytest.approx(expected, rel=1e-12)


def test_the_rate_moves_with_epochs_and_survives_a_checkpoint(tmp_path: Any):
    def run(batches: int, path: Any = None) -> tuple[Any, float]:
        learner = PPO(hidden=(8,), batch_size=64, update_epochs=2, adaptive_kl=0.5, learning_rate=1e-4)
        data = RolloutDataModule("CartPole-v1", 4, 16, 1, eval_episodes=2, seed=0, check=False)
        trainer = make_trainer(max_epochs=batches)
        trainer.fit(learner, datamodule=data, ckpt_path=path)
        return trainer, trainer.optimizers[0].param_groups[0]["lr"]

    trainer, rate = run(2)
    assert rate == pytest.approx(1e-4 * 1.5**4)  # KL stays far below half of 0.5 in all four epochs
    assert trainer.callback_metrics["policy/learning_rate"] == pytest.approx(rate)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert run(3, tmp_path / "last.ckpt")[1] == pytest.approx(1e-4 * 1.5**6)


def test_a_mirror_image_by_hand():
    table = Mirror([1, 0, 2], [1.0, 1.0, -1.0])
    obs = {"a": torch.tensor([[1.0, 2.0, 3.0]])}
    once = reflect(obs, {"a": table})
    assert once["a"].tolist() == [[2.0, 1.0, -3.0]]
    assert reflect(once, {"a": table})["a"].tolist() == obs["a"].tolist()


def samples_of(symmetric: bool) -> tuple[Any, Any]:
    torch.manual_seed(0)
    data = RolloutDataModule("GO2-v0", 3, 8, 1, env_kwargs=GO2, eval_episodes=2, seed=3)
    learner = PPO(hidden=(8,), batch_size=24, central_critic=True, symmetry_augmentation=symmetric)
    kept: list[Any] = []

    training_step = learner.training_step

    def spy(rollout: Any, batch_idx: int) -> None:
        policy = learner.policy
        kept.append((rollout, policy.samples(rollout, policy.replay(rollout), Ranks())[0], policy))
        training_step(rollout, batch_idx)

    learner.training_step = spy  # type: ignore[method-assign]
    make_trainer().fit(learner, datamodule=data)
    return kept[0], learner.spec


def test_samples_are_followed_by_their_mirror_images():
    (rollout, samples, policy), spec = samples_of(symmetric=True)
    (_, plain, _), _ = samples_of(symmetric=False)
    assert len(samples["log_prob"]) == 2 * len(plain["log_prob"]) == 2 * 8 * 3
    parts = {key: leaf.unflatten(0, (8, 6)) for key, leaf in samples.items() if key != "obs"}
    for key in ("log_prob", "advantage", "return"):
        torch.testing.assert_close(parts[key][:, :3], parts[key][:, 3:], rtol=0, atol=0)
    action = spec.mirror["action"]
    for t, env in ((0, 0), (5, 2)):
        image = [
            sign * float(rollout["action"][t, env, k])
            for k, sign in zip(action.source, action.sign, strict=True)
        ]
        assert parts["action"][t, 3 + env].tolist() == pytest.approx(image)
    seen = samples["obs"]["actor"].unflatten(0, (8, 6))
    torch.testing.assert_close(seen[:, :3], policy.views(rollout["obs"])["actor"][:-1])
    observation = spec.mirror["observation"]["observation"]
    torch.testing.assert_close(seen[:, 3:], reflect(seen[:, :3], observation))


def test_gradient_steps_double():
    for symmetric, steps in ((True, 4), (False, 2)):
        learner = PPO(hidden=(8,), batch_size=24, update_epochs=2, symmetry_augmentation=symmetric)
        settings = GO2 | {"critic": False}
        data = RolloutDataModule("GO2-v0", 3, 8, 1, env_kwargs=settings, eval_episodes=2, seed=3)
        make_trainer().fit(learner, datamodule=data)
        assert learner.updates == steps


def test_the_spec_of_a_robot_with_a_mirror_survives_a_checkpoint():
    spec = Go2Batch(1, critic=True, history=2).spec
    again = EnvSpec.from_dict(spec.to_dict())
    assert again.mirror == spec.mirror
    old = spec.to_dict()
    del old["mirror"]
    assert EnvSpec.from_dict(old).mirror is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"adaptive_kl": 0.01, "anneal_env_steps": 100}, "adaptive_kl and anneal_env_steps both set the"),
        ({"symmetry_augmentation": True, "gru": 4}, "symmetry_augmentation = true contradicts gru"),
        ({"adaptive_kl": 0.0}, "adaptive_kl = 0.0, expected adaptive_kl > 0, or null"),
    ],
)
def test_arguments_that_contradict_each_other(arguments: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        PPO(**arguments)


def test_an_environment_without_a_mirror_is_refused():
    learner, data = PPO(batch_size=64, symmetry_augmentation=True), ppo_legs(1)[1]
    learner.spec = EnvSpec("plain", data.spec.observation, data.spec.action)  # type: ignore[attr-defined]
    learner.central_critic = True
    with pytest.raises(
        ValueError, match=r"plain has no mirror in its spec \(the native batch of GO2-v0 has one"
    ):
        learner.configure_model()
