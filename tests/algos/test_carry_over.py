"""What a learner takes from a checkpoint: all of it with another setting, its weights alone, or its counters.

What every learner must keep to runs over the cases of ``tests/cases.py``; what only some have follows.
"""

from __future__ import annotations

import logging
import math
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule

from lit_rl import PPO, SAC, RolloutDataModule
from lit_rl.algos.module import RLModule, linear_schedule
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.data.module import RLDataModule
from lit_rl.data.replay import ReplayDataModule
from lit_rl.normalize import ReturnScale
from tests.cases import CASES
from tests.golden_runs import CHECKPOINTS
from tests.toys import Episodes57, fit, make_trainer


class SaveAtTheEnd(Callback):
    """Saves as callbacks do, after the last batch of an epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.path)


class Look(Callback):
    """Notes how training starts, and each batch with the settings of the optimizers that trained on it."""

    def __init__(self) -> None:
        self.batches: list[dict[str, Any]] = []
        self.rates: list[list[float]] = []
        self.env_steps: list[int] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        state = pl_module.state_dict()
        self.counters = state.pop("_extra_state")
        self.weights = {name: value.clone() for name, value in state.items()}
        self.has_optimizer_state = any(optimizer.state for optimizer in trainer.optimizers)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        self.env_steps.append(pl_module.env_steps)

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self.rates.append([group["lr"] for group in groups])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``saved("sac_pendulum")`` is a checkpoint of that case after an epoch of two batches."""

    @cache
    def run(name: str) -> Path:
        path = tmp_path_factory.mktemp(name) / "last.ckpt"
        torch.manual_seed(1)
        learner, data = CASES[name](2)
        make_trainer(callbacks=[SaveAtTheEnd(path)]).fit(learner, datamodule=data)
        return path

    return run


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[str], list[str]]:
    """``said("resumed: ")`` are the lines of the log that begin so."""
    caplog.set_level(logging.INFO, "lit_rl")
    return lambda beginning: [line for line in caplog.messages if line.startswith(beginning)]


def again(name: str, learner: dict[str, Any], data: dict[str, Any]) -> tuple[RLModule, LightningDataModule]:
    """A case with other arguments."""
    first, source = CASES[name](2)
    made_with = cast(RLDataModule, source).made_with["init_args"]
    return type(first)(**{**first.hparams, **learner}), type(source)(**{**made_with, **data})


# All of it


@pytest.mark.parametrize("name", CASES)
def test_a_changed_learning_rate_takes_effect_in_every_part(
    name: str, saved: Callable[[str], Path], said: Callable[[str], list[str]]
):
    before = CASES[name](1)[0].hparams["learning_rate"]
    rate = 10 * before
    learner, data = again(name, {"learning_rate": rate}, {})
    look = Look()
    make_trainer(max_epochs=2, callbacks=[look]).fit(learner, datamodule=data, ckpt_path=saved(name))
    assert len(look.rates) == 2, name
    for rates, env_steps in zip(look.rates, look.env_steps, strict=True):
        annealed = rate * linear_schedule(env_steps, learner.hparams.get("anneal_env_steps"))
        for now in rates:
            if learner.hparams.get("adaptive_kl"):  # it moves on from there, by factors of 1.5
                moved = math.log(now / rate, 1.5)
                assert moved == pytest.approx(round(moved), abs=1e-6), name
                continue
            assert now in (pytest.approx(rate, rel=1e-9), pytest.approx(annealed, rel=1e-9)), name
    assert said("resumed: learning rate") == [
        f"resumed: learning rate {rate:g} replaces {before:g} of the checkpoint"
    ]


@pytest.mark.parametrize("name", CASES)
def test_what_was_not_changed_is_not_mentioned(
    name: str, saved: Callable[[str], Path], said: Callable[[str], list[str]]
):
    learner, data = again(name, {}, {})
    make_trainer(max_epochs=2).fit(learner, datamodule=data, ckpt_path=saved(name))
    assert said("resumed: ") == ["resumed: environments, random generators and data continue bit for bit"], (
        name
    )


@pytest.mark.parametrize("name", CASES)
def test_another_number_of_environments_starts_new_episodes_and_says_so(
    name: str, saved: Callable[[str], Path], said: Callable[[str], list[str]]
):
    before = cast(RLDataModule, CASES[name](1)[1]).num_envs
    learner, data = again(name, {}, {"num_envs": 2 * before})
    look = Look()
    make_trainer(max_epochs=2, callbacks=[look]).fit(learner, datamodule=data, ckpt_path=saved(name))
    (line,) = said("resumed: ")
    assert line.startswith(
        f"resumed: the checkpoint has num_envs = {before} and this run {2 * before}, so episodes start anew; "
        "random generators continue"
    ), name
    assert [batch["num_envs"] for batch in look.batches] == [2 * before] * 2, name
    assert learner.policy_version == 4, name
    assert learner.env_steps == look.env_steps[0] + sum(batch["new_steps"] for batch in look.batches), name
    if isinstance(data, ReplayDataModule):
        assert "random_steps" in look.batches[0]
        assert look.batches[0]["random_steps"] == 0  # the ring goes on, and no warm-up is played again
    else:
        assert look.batches[0]["reset"][0].all(), name


# Its weights


@pytest.mark.parametrize("name", CASES)
def test_a_new_run_begins_with_weights_and_normalizers_alone(
    name: str, saved: Callable[[str], Path], said: Callable[[str], list[str]]
):
    learner, data = again(name, {}, {})
    assert learner.init_from(saved(name)) is learner
    look = Look()
    fit(learner, data, callbacks=[look])
    state = torch.load(saved(name), weights_only=True)["state_dict"]
    counters = state.pop("_extra_state")
    assert state.keys() == look.weights.keys(), name
    assert all(torch.equal(value, state[key]) for key, value in look.weights.items()), name
    assert counters["env_steps"] > 0
    assert look.counters == dict.fromkeys(counters, 0), name
    assert not look.has_optimizer_state, name
    assert learner.env_steps == sum(batch["new_steps"] for batch in look.batches), name
    assert look.batches[0]["policy_version"] == 0, name
    assert said("resumed: ") == [], name
    (line,) = said("weights of ")
    assert line.endswith(
        f"({counters['env_steps']} env steps): {len(state)} of {len(state)} tensors taken; counters start "
        "at 0, optimizers afresh"
    ), name


def test_a_learner_that_was_trained_before_begins_anew(saved: Callable[[str], Path]):
    learner, data = again("ppo_cartpole", {}, {})
    fit(learner, data)
    assert learner.env_steps > 0
    assert learner.recent_episodes.returns
    learner.init_from(saved("ppo_cartpole"))
    assert (learner.env_steps, learner.policy_version, learner.updates, learner.num_episodes) == (0, 0, 0, 0)
    assert not learner.recent_episodes.returns
    look = Look()
    fit(learner, data, callbacks=[look])
    state = torch.load(saved("ppo_cartpole"), weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[key]) for key, value in look.weights.items())
    parameter = next(learner.parameters())
    assert not torch.equal(parameter, look.weights[next(iter(look.weights))])  # it is trained on


FIRST = "policy.network.actor.0"


def other_width() -> PPO:
    """Other hidden layers than those of ``ppo_cartpole``, and a normalizer that it has not."""
    return PPO(hidden=(8, 16), batch_size=64, normalize_observation=True)


def data_of_cartpole() -> RolloutDataModule:
    return RolloutDataModule("CartPole-v1", 4, 32, 1, check=False)


def test_tensors_of_another_shape_are_named(saved: Callable[[str], Path]):
    path = saved("ppo_cartpole")
    with pytest.raises(ValueError, match=r"do not fit this learner") as caught:
        fit(other_width().init_from(path), data_of_cartpole())
    message = str(caught.value)
    assert message.startswith(f"the weights of {path} do not fit this learner: ")
    assert f"{FIRST}.weight is (16, 4) in the checkpoint and (8, 4) here; " in message
    assert "policy.observation_norm.norms.leaf:obs.mean is not in the checkpoint" in message
    assert re.search(r" is not in the checkpoint; and \d more\. Give the networks", message)
    assert "\n" not in message
    back = PPO(hidden=(16,), batch_size=64).init_from(path)
    with pytest.raises(
        ValueError, match=r"policy\.network\.actor\.4\.weight \(2, 16\) is not in this learner"
    ):
        fit(back, data_of_cartpole())


def test_what_fits_is_taken_when_asked_for(saved: Callable[[str], Path], said: Callable[[str], list[str]]):
    learner = other_width().init_from(saved("ppo_cartpole"), partial=True)
    look = Look()
    fit(learner, data_of_cartpole(), callbacks=[look])
    state = torch.load(saved("ppo_cartpole"), weights_only=True)["state_dict"]
    taken = [key for key, value in look.weights.items() if key in state and torch.equal(value, state[key])]
    assert "policy.network.actor.4.weight" in taken
    left_out = {line.removeprefix("left out: ").partition(" ")[0] for line in said("left out: ")}
    assert f"{FIRST}.weight" in left_out
    assert "policy.observation_norm.norms.leaf:obs.mean" in left_out
    fitting = {key for key, value in look.weights.items() if key in state and value.shape == state[key].shape}
    assert set(taken) == fitting == (look.weights.keys() | state.keys()) - left_out - {"_extra_state"}
    assert said("weights of ")[0].partition(": ")[2].startswith(f"{len(fitting)} of {len(look.weights)} ")


def test_nothing_that_fits_is_refused_even_then(saved: Callable[[str], Path], tmp_path: Path):
    content = torch.load(saved("ppo_cartpole"), weights_only=True)
    content["state_dict"] = {f"other.{key}": value for key, value in content["state_dict"].items()}
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"actor\.0\.weight is not in the checkpoint; .*; and \d+ more"):
        fit(other_width().init_from(tmp_path / "other.ckpt", partial=True), data_of_cartpole())


class Mine(PPO):
    """A subclass may begin with the weights of its parent."""


def test_the_class_must_be_the_same(saved: Callable[[str], Path]):
    path = saved("sac_pendulum")
    message = (
        rf"the weights of {path} are those of a lit_rl\.SAC, this learner is a lit_rl\.PPO; give a checkpoint"
    )
    with pytest.raises(ValueError, match=message):
        PPO().init_from(path)
    learner = Mine(hidden=(16, 16), batch_size=64).init_from(saved("ppo_cartpole"))
    fit(learner, data_of_cartpole())


def test_the_name_of_a_class_in_a_checkpoint_is_never_imported(saved: Callable[[str], Path], tmp_path: Path):
    content = torch.load(saved("ppo_cartpole"), weights_only=True)
    content["lit_rl"]["class_path"] = "antigravity.PPO"
    content["hyper_parameters"]["encoder"] = {"class_path": "os.abort", "init_args": {}}
    torch.save(content, tmp_path / "crafted.ckpt")
    with pytest.raises(ValueError, match=r"are those of a antigravity\.PPO"):
        PPO().init_from(tmp_path / "crafted.ckpt")
    assert "antigravity" not in sys.modules
    content["lit_rl"]["class_path"] = "lit_rl.PPO"
    torch.save(content, tmp_path / "crafted.ckpt")
    fit(PPO(hidden=(16, 16), batch_size=64).init_from(tmp_path / "crafted.ckpt"), data_of_cartpole())


def test_a_file_that_holds_no_weights(tmp_path: Path):
    (tmp_path / "a.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"a\.ckpt is not a checkpoint of lit_rl, or it is truncated"):
        PPO().init_from(tmp_path / "a.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match=r"b\.ckpt is not a checkpoint of lit_rl"):
        PPO().init_from(tmp_path / "b.ckpt")
    with pytest.raises(FileNotFoundError):
        PPO().init_from(tmp_path / "c.ckpt")


@pytest.mark.parametrize("name", ["ppo_cartpole", "sac_pendulum"])
def test_weights_of_an_older_checkpoint(name: str, said: Callable[[str], list[str]]):
    """Its parts and its class have other names by now."""
    learner, data = again(name, {}, {})
    fit(learner.init_from(CHECKPOINTS / f"{name}.ckpt"), data)
    assert len(said("weights of ")) == 1


# Its counters


def test_counters_go_on_after_loading_unless_they_are_reset(saved: Callable[[str], Path]):
    path = saved("ppo_cartpole")  # 256 env steps, in batches of 128
    kept = PPO.load_from_checkpoint(path)
    assert (kept.env_steps, kept.policy_version) == (256, 2)
    fit(kept, data_of_cartpole(), max_epochs=-1, callbacks=[EnvStepBudget(512)])
    assert (kept.env_steps, kept.policy_version) == (512, 4)

    reset = PPO.load_from_checkpoint(path).reset_counters()
    assert (reset.env_steps, reset.policy_version, reset.updates, reset.num_episodes) == (0, 0, 0, 0)
    weights = torch.load(path, weights_only=True)["state_dict"][f"{FIRST}.weight"]
    assert torch.equal(reset.policy.network.actor[0].weight, weights)
    fit(reset, data_of_cartpole(), max_epochs=-1, callbacks=[EnvStepBudget(512)])
    assert (reset.env_steps, reset.policy_version) == (512, 4)


# Its environments


def of_episodes57(num_envs: int = 2) -> tuple[PPO, RolloutDataModule]:
    """An environment that cannot save its state, whose rewards are known, and which 16 steps leave midway."""
    learner = PPO(hidden=(8,), batch_size=16, update_epochs=1, gamma=0.5, normalize_return=True)
    return learner, RolloutDataModule(Episodes57, num_envs, 16, 1, seed=3, check=False)


@pytest.mark.parametrize("num_envs", [2, 3])
def test_sums_of_episodes_that_do_not_go_on_are_dropped_and_statistics_stay(num_envs: int, tmp_path: Path):
    learner, data = of_episodes57()
    make_trainer(callbacks=[SaveAtTheEnd(tmp_path / "last.ckpt")]).fit(learner, datamodule=data)
    scale = cast(ReturnScale, learner.policy.return_scale)
    assert scale.return_N is not None
    assert scale.return_N.min() > 0  # both episodes are under way
    count = scale.moments.count.item()
    assert count == 32

    resumed, data = of_episodes57(num_envs)
    look = Look()
    trainer = make_trainer(max_epochs=2, callbacks=[look])
    trainer.fit(resumed, datamodule=data, ckpt_path=tmp_path / "last.ckpt")
    (batch,) = look.batches
    assert batch["reset"][0].all()
    alone = ReturnScale(0.5)
    alone.update(batch["reward"], batch["terminated"] | batch["truncated"])
    got = cast(ReturnScale, resumed.policy.return_scale)
    assert torch.equal(cast(Any, got.return_N), cast(Any, alone.return_N))
    assert got.moments.count == count + 16 * num_envs
    # the union of what was known and of the new returns, which begin at 0
    share = 16 * num_envs / (count + 16 * num_envs)
    union = scale.moments.mean + share * (alone.moments.mean - scale.moments.mean)
    torch.testing.assert_close(got.moments.mean, union)


@pytest.mark.parametrize("name", ["ppo_pendulum", "sac_pendulum"])
def test_episodes_of_another_environment_do_not_go_on(
    name: str, saved: Callable[[str], Path], said: Callable[[str], list[str]]
):
    """Nor is what was replayed of it trained on."""
    learner, data = again(name, {}, {"env_kwargs": {"g": 5.0}})
    look = Look()
    make_trainer(max_epochs=2, callbacks=[look]).fit(learner, datamodule=data, ckpt_path=saved(name))
    (line,) = said("resumed: ")
    assert line.startswith(
        "resumed: the environment is not that of the checkpoint (env_kwargs.g), so episodes start anew"
    )
    if name == "sac_pendulum":
        assert line.endswith("; the replay ring starts empty")
        assert [batch["random_steps"] for batch in look.batches] == [50, 0]
    else:
        assert look.batches[0]["reset"][0].all()
    assert learner.env_steps == look.env_steps[0] + sum(batch["new_steps"] for batch in look.batches)
    assert look.env_steps[0] > 0


def test_a_smaller_ring_keeps_the_newest_and_says_so(
    saved: Callable[[str], Path], said: Callable[[str], list[str]]
):
    learner, data = again("sac_pendulum", {}, {"capacity": 60})
    make_trainer(max_epochs=2).fit(learner, datamodule=data, ckpt_path=saved("sac_pendulum"))
    (line,) = said("resumed: ")
    assert line == (
        "resumed: environments and random generators continue; the replay ring keeps the newest 60 of 114 "
        "transitions"
    )
    assert isinstance(learner, SAC)
    assert len(cast(ReplayDataModule, data).ring) == 60
