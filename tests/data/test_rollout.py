from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from gymnasium.wrappers import ClipReward

from lit_rl import PPO, RolloutDataModule
from lit_rl.data.loaders import Batches
from lit_rl.types import Rollout
from tests.toys import Episodes57, fit, make_trainer


class Keep(PPO):
    """Keeps the rollouts it is given."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rollouts: list[Rollout] = []

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        self.rollouts.append(copy.deepcopy(rollout))
        super().training_step(rollout, batch_idx)


def test_an_epoch_has_its_length_and_episodes_run_on():
    module = Keep(hidden=(4,), batch_size=8)
    data = RolloutDataModule(Episodes57, 2, 4, rollouts_per_epoch=3)
    assert len(data.train_dataloader()) == 3
    fit(module, data, max_epochs=2)
    assert len(module.rollouts) == 6
    for before, after in zip(module.rollouts[:-1], module.rollouts[1:], strict=True):
        assert torch.equal(before["obs"][-1], after["obs"][0])  # across the end of the epoch, too
        assert torch.equal(before["reset"][-1], after["reset"][0])
    # in 24 steps: ends after 5, 12, 17, 24 and after 7, 12, 19, 24
    assert sum(len(rollout["final_index"]) for rollout in module.rollouts) == 8
    assert module.num_episodes == 8


def test_loaders_make_batches_when_asked():
    made = []

    def make() -> Any:
        for i in range(3):
            made.append(i)
            yield i

    loader = Batches(make, 3)
    assert len(loader) == 3
    iterator = iter(loader)
    assert made == []
    assert next(iterator) == 0
    assert made == [0]
    assert list(loader) == [0, 1, 2]


def test_environment_arguments_wrappers_and_records():
    class Tall(Episodes57):
        def __init__(self, offset: float) -> None:
            super().__init__()
            self.offset = offset

        def step(self, action: Any) -> Any:
            obs, reward, terminated, truncated, _ = super().step(action)
            return obs, reward + self.offset, terminated, truncated, {"height": self.offset}

    module = Keep(hidden=(4,), batch_size=8)
    data = RolloutDataModule(
        Tall,
        2,
        4,
        1,
        env_kwargs={"offset": 100.0},
        wrappers=[lambda env: ClipReward(env, 0, 50)],
        record=["height"],
    )
    fit(module, data)
    assert module.rollouts[0]["reward"].unique().tolist() == [50]
    assert module.rollouts[0]["metrics"]["height"].unique().tolist() == [100]


def test_prediction_is_a_rollout_of_the_greedy_policy():
    module = PPO(hidden=(4,), batch_size=8)
    data = RolloutDataModule(Episodes57, 2, 6)
    (rollout,) = make_trainer().predict(module, datamodule=data)  # type: ignore[misc]
    assert rollout["reward"].shape == (6, 2)
    with torch.no_grad():
        greedy = module.act(rollout["obs"][:-1], {}, rollout["reset"][:-1], greedy=True).action
    assert torch.equal(rollout["action"], greedy)


def test_prediction_of_the_sampled_policy_is_repeatable_and_unnoticed():
    actions = []
    for seed in (1, 2):
        data = RolloutDataModule(Episodes57, 2, 20, seed=3, eval_policy="sample")
        torch.manual_seed(0)
        module = PPO(hidden=(4,), batch_size=8, spec=data.spec)
        module.configure_model()
        torch.manual_seed(seed)
        expected = torch.rand(2)
        torch.manual_seed(seed)
        (rollout,) = make_trainer().predict(module, datamodule=data)  # type: ignore[misc]
        assert torch.equal(torch.rand(2), expected)
        actions.append(rollout["action"])
        with torch.no_grad():
            greedy = module.act(rollout["obs"][:-1], {}, rollout["reset"][:-1], greedy=True).action
        assert not torch.equal(actions[-1], greedy)
    assert torch.equal(*actions)


def test_validation_and_test_alone():
    module = PPO(hidden=(4,))
    data = RolloutDataModule(Episodes57, eval_episodes=3, seed=1)
    trainer = make_trainer(limit_val_batches=1.0)
    for play in (trainer.validate, trainer.test):
        module.eval_result = None
        play(module, datamodule=data, verbose=False)
        assert trainer.callback_metrics["eval/return_mean"] == pytest.approx((91 + 110 + 10) / 3)
        assert module.eval_result is not None
        assert module.eval_result["return_mean"] == pytest.approx((91 + 110 + 10) / 3)


@pytest.mark.parametrize("arguments", [{"rollout_steps": 0}, {"rollouts_per_epoch": 0}])
def test_arguments_out_of_range(arguments: dict[str, int]):
    with pytest.raises(ValueError, match=f"RolloutDataModule: {next(iter(arguments))} = 0, expected "):
        RolloutDataModule(Episodes57, **arguments)  # type: ignore[arg-type]


def test_env_steps_of_a_batch_decide_the_rollout_steps():
    assert RolloutDataModule("CartPole-v1", 32, batch_env_steps=1024).rollout_steps == 32
    message = (
        r"batch_env_steps = 1024 is not divisible by num_envs = 30; num_envs that would fit: .*16, 32, 64"
    )
    with pytest.raises(ValueError, match=message):
        RolloutDataModule("CartPole-v1", 30, batch_env_steps=1024)


def test_nothing_is_collected_in_the_middle_of_an_update():
    class Collects(PPO):
        def training_step(self, rollout, batch_idx):
            self.begin_batch(rollout, is_on_policy=True)
            next(iter(self.trainer.datamodule.train_dataloader()))

    with pytest.raises(RuntimeError, match="experience was asked for in the middle of an update"):
        fit(Collects(hidden=(4,)), RolloutDataModule("CartPole-v1", 2, 8, 1))
