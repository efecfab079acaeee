from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_rl import PPO, RolloutDataModule
from lit_rl.algos.module import RLModule
from lit_rl.types import ActionSpec, Decision, EnvSpec, LeafSpec, Nested, Rollout
from tests.toys import ContinuousEpisodes57, Episodes57, Mixed, fit, make_trainer


class Reinforce(RLModule):
    """The smallest learner, REINFORCE (Williams 1992) with a linear policy: what a subclass writes."""

    def build(self, spec: EnvSpec) -> None:
        self.policy = torch.nn.Linear(3, spec.action.categories[0])

    def act(self, obs: Nested, carry: Nested, reset: Tensor, *, greedy: bool = False) -> Decision:
        logits = self.policy(obs)
        action = logits.argmax(-1) if greedy else torch.distributions.Categorical(logits=logits).sample()
        return Decision(action, carry, {})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.policy.parameters(), 0.01)

    def training_step(self, rollout: Rollout, batch_idx: int) -> None:
        self.begin_batch(rollout, is_on_policy=True)
        log_prob = (
            self.policy(rollout["obs"][:-1]).log_softmax(-1).gather(-1, rollout["action"].unsqueeze(-1))
        )
        loss = -(log_prob.squeeze(-1) * rollout["reward"]).mean()
        (optimizer,) = self.raw_optimizers()
        self.minimize(optimizer, loss, max_grad_norm=1.0)
        self.updates += 1
        self.finish_batch({"loss/policy": loss}, rollout)


def test_a_learner_is_a_few_lines():
    module = Reinforce()
    logger = fit(module, RolloutDataModule(Episodes57, 2, 8, 3), max_epochs=2, limit_val_batches=1.0)
    assert (module.policy_version, module.env_steps, module.updates) == (6, 96, 6)
    assert len(logger.column("loss/policy")) == 6
    assert len(logger.column("eval/return_mean")) == 2
    assert [step for step, _ in logger.rows] == [
        16,
        32,
        48,
        48,
        64,
        80,
        96,
        96,
    ]  # evaluations on the same axis


def test_what_a_subclass_must_implement():
    with pytest.raises(TypeError, match=r"RLModule must implement build\(spec\)"):
        RLModule(spec=EnvSpec("e", LeafSpec([3]), ActionSpec("discrete", categories=[2]))).configure_model()
    with pytest.raises(TypeError, match=r"RLModule must implement act\(obs, carry, reset, greedy=\.\.\.\)"):
        RLModule().act(torch.zeros(1, 3), {}, torch.zeros(1, dtype=torch.bool))


def test_a_forgotten_begin_or_end_of_a_batch_is_named():
    class Endless(Reinforce):
        def training_step(self, rollout: Rollout, batch_idx: int) -> None:
            self.begin_batch(rollout, is_on_policy=True)

    class Beginless(Reinforce):
        def training_step(self, rollout: Rollout, batch_idx: int) -> None:
            self.finish_batch({}, rollout)

    data = RolloutDataModule(Episodes57, 2, 8, 3)
    with pytest.raises(RuntimeError, match=r"Endless\.training_step must end with finish_batch\(val"):
        fit(Endless(), data)
    with pytest.raises(RuntimeError, match=r"Beginless\.training_step must call begin_batch before"):
        fit(Beginless(), data)


def test_episode_statistics_are_over_the_last_hundred():
    module = Reinforce()
    logger = fit(module, RolloutDataModule(Episodes57, 1, 150, 1, seed=6), max_epochs=5)
    lengths = [7 if k % 2 else 5 for k in range(125)]
    assert module.num_episodes == 125
    assert logger.column("episode/count") == [25, 50, 75, 100, 125]
    returns = [length * (length - 1) / 2 + 10 * k * length for k, length in enumerate(lengths)]
    assert logger.column("episode/return_mean")[0] == pytest.approx(sum(returns[:25]) / 25)
    assert logger.column("episode/return_mean")[-1] == pytest.approx(sum(returns[25:]) / 100)
    assert logger.column("episode/length_mean")[-1] == pytest.approx(sum(lengths[25:]) / 100)


def test_a_rollout_without_an_end_logs_no_mean():
    logger = fit(Reinforce(), RolloutDataModule(Episodes57, 1, 3, 2, seed=6))
    assert ["episode/return_mean" in values for _, values in logger.rows] == [False, True]


# The process


def test_threads_are_put_back():
    before = torch.get_num_threads()
    seen = []

    class Spy(Reinforce):
        def training_step(self, rollout: Rollout, batch_idx: int) -> None:
            seen.append(torch.get_num_threads())
            super().training_step(rollout, batch_idx)

    fit(Spy(threads=2), RolloutDataModule(Episodes57, 1, 8, 1))
    assert seen == [2]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_half_precision_weights_are_refused(precision: Any):
    with pytest.raises(
        ValueError, match=f"precision must be one of 32-true, 64-true, bf16-mixed, got {precision}"
    ):
        fit(Reinforce(), RolloutDataModule(Episodes57, 1, 8, 1), precision=precision)


def test_sharded_strategies_are_refused(monkeypatch: pytest.MonkeyPatch):
    class FSDPStrategy:
        pass

    monkeypatch.setattr(RLModule, "trainer", SimpleNamespace(strategy=FSDPStrategy()))
    with pytest.raises(
        ValueError, match=r"strategy must keep all parameters on each rank \(auto, ddp\), got FSDPStrategy"
    ):
        RLModule().configure_callbacks()


def test_a_learner_must_know_its_environment():
    with pytest.raises(
        ValueError, match=r"PPO must know the environment: give trainer\.fit a data module with a spec"
    ):
        make_trainer().fit(PPO(), train_dataloaders=[0], val_dataloaders=[])


# Checkpoints


def saved(folder: Path, module: RLModule, env: Any = Episodes57) -> Path:
    """A checkpoint written within the run, as callbacks write them."""
    data = RolloutDataModule(env, 2, 8, 1)
    path = folder / "last.ckpt"
    module.on_train_end = lambda: module.trainer.save_checkpoint(path)  # type: ignore[method-assign]
    fit(module, data)
    del module.on_train_end
    return path


def test_a_checkpoint_holds_plain_types_only(tmp_path: Path):
    module = PPO(hidden=(4,), batch_size=16, normalize_return=True, encoder=None)
    checkpoint = torch.load(saved(tmp_path, module), weights_only=True)
    assert checkpoint["hyper_parameters"]["hidden"] == (4,)
    assert "spec" not in checkpoint["hyper_parameters"]
    assert checkpoint["lit_rl"]["class_path"] == "lit_rl.PPO"
    assert EnvSpec.from_dict(checkpoint["lit_rl"]["spec"]) == module.spec
    (rank,) = checkpoint["lit_rl"]["ranks"]
    assert rank["state"]["return_scale"]["return_N"].shape == (2,)


def test_a_learner_is_loaded_as_lightning_does(tmp_path: Path):
    module = PPO(hidden=(4,), batch_size=16)
    loaded = PPO.load_from_checkpoint(saved(tmp_path, module))
    assert loaded.env_steps == module.env_steps == 16
    assert torch.equal(loaded.policy.network.actor[0].weight, module.policy.network.actor[0].weight)


def test_another_environment_is_refused(tmp_path: Path):
    path = saved(tmp_path, PPO(hidden=(4,), batch_size=16))
    trainer = make_trainer(max_epochs=2)
    message = (
        r"trained on .*Episodes57 with observation .*\[3\].* Mixed with observation .*; give the environment"
    )
    with pytest.raises(ValueError, match=message):
        trainer.fit(
            PPO(hidden=(4,), batch_size=16),
            datamodule=RolloutDataModule(partial(Mixed), 2, 8, 1),
            ckpt_path=path,
        )
    with pytest.raises(ValueError, match=r"with action .*discrete.* with action .*box"):
        trainer.fit(
            PPO(hidden=(4,), batch_size=16),
            datamodule=RolloutDataModule(ContinuousEpisodes57, 2, 8, 1),
            ckpt_path=path,
        )


def test_a_checkpoint_sets_counters_and_nothing_else():
    module = PPO()
    module.set_extra_state({"env_steps": 3, "gamma": 0.5, "act": "os.system"})
    assert (module.env_steps, module.gamma) == (3, 0.99)
    assert callable(module.act)


def test_a_foreign_checkpoint_is_refused():
    with pytest.raises(
        ValueError, match="checkpoint expected to be written by lit_rl, but it has no entry 'lit_rl'"
    ):
        PPO().on_load_checkpoint({"state_dict": {}})
