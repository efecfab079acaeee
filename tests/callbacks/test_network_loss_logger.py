import json
import math
import os
import signal
from pathlib import Path

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule

from lit_rl import HMASD, PPO, SAC, Predictor, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.network_loss_logger import NetworkLossLogger
from lit_rl.callbacks.recorder.reader import read_losses
from lit_rl.loss_log import find_loss_logs, segments
from tests.cases import TOKEN_ENCODERS
from tests.team_toys import Team
from tests.token_toys import Joints
from tests.toys import ContinuousEpisodes57, Episodes57, MemoryLogger, make_trainer, parameters_of

STEPS = 32
"""Env steps of a batch: 2 environments, 16 steps."""


@pytest.fixture
def run(tmp_path):
    """Train in ``<tmp_path>/ppo_toy/run`` and return what was logged; no recorder process is left behind."""
    callbacks = []

    def train(module, callback, data=None, epochs=1, ckpt_path=None, directory="run", more=(), **kwargs):
        callbacks.append(callback)
        logger = MemoryLogger()
        trainer = make_trainer(
            logger=logger,
            callbacks=[callback, *more],
            default_root_dir=tmp_path / "ppo_toy" / directory,
            max_epochs=epochs,
            enable_checkpointing=bool(more),
            **kwargs,
        )
        trainer.fit(module, data or rollouts(), ckpt_path=ckpt_path)
        return logger

    yield train
    for callback in callbacks:
        recorder = callback._recorder
        if recorder is not None:
            recorder.close()
            if recorder._thread.is_alive() and recorder.process_id is not None:
                os.kill(recorder.process_id, signal.SIGKILL)
            assert recorder.wait()


def ppo(**kwargs) -> PPO:
    return PPO(hidden=(4,), batch_size=16, update_epochs=1, **kwargs)


def rollouts() -> LightningDataModule:
    return RolloutDataModule(Episodes57, 2, 16, 4, eval_episodes=1)


def load(callback: NetworkLossLogger, name: str) -> dict:
    assert callback.directory is not None
    return json.loads((callback.directory / name).read_text())


def missing(callback: NetworkLossLogger) -> dict[str, str]:
    networks = load(callback, "config.json")["networks"].items()
    return {name: status["reason"] for name, status in networks if status["status"] == "missing"}


def test_losses_of_ppo(run, tmp_path):
    callback = NetworkLossLogger()
    logged = run(ppo(), callback)
    directory = tmp_path / "ppo_toy" / "run" / "network_loss_logs" / "ppo_toy_loss_log"
    assert callback.directory == directory
    assert find_loss_logs(tmp_path / "ppo_toy" / "run") == [directory]
    assert list(segments(directory)) == ["ppo", "total"]
    table = read_losses(directory, "ppo")
    assert table.steps == [STEPS * i for i in range(1, 5)] == [step for step, _ in logged.rows]
    assert table.losses == {
        "actor_loss": logged.column("loss/policy"),
        "critic_loss": logged.column("loss/value"),
    }
    assert read_losses(directory, "total").losses == {"total_loss": logged.column("loss/total")}
    assert missing(callback) == {
        "attention": "PPO trains an encoder through its own losses; this network has none",
        "gnn": "PPO trains an encoder through its own losses; this network has none",
        "sac": "the learner is PPO",
    }
    state = load(callback, "recorder.json")
    assert [state[key] for key in ("state", "offered", "written", "dropped", "invalid")] == [
        "finished",
        8,
        8,
        0,
        0,
    ]
    config = load(callback, "config.json")
    assert (config["algorithm"], config["run_directory"]) == ("ppo", str(tmp_path / "ppo_toy" / "run"))


def test_losses_of_sac(run):
    callback = NetworkLossLogger(experiment_name="mine")
    data = ReplayDataModule(ContinuousEpisodes57, 2, 8, batch_size=4, warmup_steps=8, batches_per_epoch=3)
    logged = run(SAC(hidden=(4,)), callback, data)
    assert callback.directory is not None
    assert callback.directory.name == "mine_loss_log"
    assert list(segments(callback.directory)) == ["sac"]
    table = read_losses(callback.directory, "sac")
    assert table.losses["critic_loss"] == logged.column("loss/critic")
    assert table.losses.keys() == {"actor_loss", "critic_loss", "temperature_loss"}
    assert missing(callback)["total"] == "SAC back-propagates its losses one by one, there is no total"
    assert missing(callback)["ppo"] == "the learner is SAC"


@pytest.mark.parametrize(("encoder", "network"), [("attention", "attention"), ("gnn", "gnn")])
def test_losses_of_an_encoder_that_is_trained_alone(run, encoder, network):
    callback = NetworkLossLogger()
    module = Predictor(TOKEN_ENCODERS[encoder], hidden=(8,), batch_size=32, update_epochs=1)
    logged = run(module, callback, RolloutDataModule(Joints, 2, 16, 3, eval_episodes=1, check=False))
    assert callback.directory is not None
    assert list(segments(callback.directory)) == [network]
    table = read_losses(callback.directory, network)
    assert table.steps == [STEPS, 2 * STEPS, 3 * STEPS]
    assert table.losses == {f"{network}_loss": logged.column(f"loss/{network}")}
    (other,) = {"attention", "gnn"} - {network}
    assert missing(callback)[other] == "the encoder that Predictor trains is of another kind"


def test_losses_of_hmasd(run):
    callback = NetworkLossLogger()
    module = HMASD(hidden=(4,), embedding=4, gru=None, k=4, update_epochs=1, discriminator_epochs=1)
    logged = run(module, callback, RolloutDataModule(Team, 2, 16, 2, eval_episodes=1))
    assert callback.directory is not None
    assert set(segments(callback.directory)) == {"attention", "discriminator", "ppo", "total"}
    expected = {
        "ppo": {"actor_loss": "loss/policy", "critic_loss": "loss/value"},
        "attention": {
            "attention_loss": "Losses/Coordinator/Total",
            "policy_loss": "Losses/Coordinator/Policy",
            "value_loss": "Losses/Coordinator/Value",
        },
        "discriminator": {"discriminator_loss": "Losses/Discriminator/Total"},
        "total": {"total_loss": "loss/total"},
    }
    for network, losses in expected.items():
        table = read_losses(callback.directory, network)
        assert table.losses == {loss: logged.column(name) for loss, name in losses.items()}
    assert missing(callback) == {
        "gnn": "HMASD trains an encoder through its own losses; this network has none",
        "sac": "the learner is HMASD",
    }


class Derived(PPO):
    """Another name; reports a loss that no rule knows."""

    def finish_batch(self, values, *args, **kwargs):
        super().finish_batch(values | {"loss/support": 1.5}, *args, **kwargs)


def test_derived_learner_and_unknown_loss(run):
    callback = NetworkLossLogger()
    run(Derived(hidden=(4,), batch_size=16, update_epochs=1), callback)
    assert callback.directory is not None
    assert list(segments(callback.directory)) == ["other", "ppo", "total"]
    assert read_losses(callback.directory, "other").losses == {"support_loss": [1.5] * 4}


class Diverges(PPO):
    """Its value loss becomes NaN in the third batch."""

    def finish_batch(self, values, *args, **kwargs):
        if self.policy_version == 2:
            values["loss/value"] = torch.tensor(math.nan)
        super().finish_batch(values, *args, **kwargs)


def test_loss_that_ends_training_is_recorded(run):
    callback = NetworkLossLogger()
    with pytest.raises(FloatingPointError, match="loss/value became nan"):
        run(Diverges(hidden=(4,), batch_size=16, update_epochs=1), callback)
    assert callback.directory is not None
    table = read_losses(callback.directory, "ppo")
    assert table.steps == [STEPS, 2 * STEPS, 3 * STEPS]
    assert [math.isnan(value) for value in table.losses["critic_loss"]] == [False, False, True]
    statistics = load(callback, "ppo_stats.json")["losses"]["critic_loss"]
    assert (statistics["count"], statistics["nan"], statistics["last"]) == (3, 1, "nan")
    assert load(callback, "recorder.json")["state"] == "finished"


class Fails(PPO):
    """Raises in the third batch, before there are losses."""

    def training_step(self, rollout, batch_idx):
        if self.policy_version == 2:
            raise RuntimeError("on purpose")
        super().training_step(rollout, batch_idx)


def test_exception_records_no_batch_twice(run):
    callback = NetworkLossLogger()
    with pytest.raises(RuntimeError, match="on purpose"):
        run(Fails(hidden=(4,), batch_size=16, update_epochs=1), callback)
    assert callback.directory is not None
    assert read_losses(callback.directory, "ppo").steps == [STEPS, 2 * STEPS]


def test_it_changes_nothing_that_is_learned(run):
    weights = []
    for networks in ((), ("ppo",)):
        torch.manual_seed(7)
        module = ppo()
        callback = NetworkLossLogger(networks=networks)
        run(module, callback, directory=f"run{len(networks)}")
        weights.append(parameters_of(module))
    assert torch.equal(*weights)
    torch.manual_seed(7)
    module = ppo()
    make_trainer(default_root_dir=callback.directory).fit(module, rollouts())
    assert torch.equal(parameters_of(module), weights[0])


def test_runs_of_one_name_get_directories_of_their_own(run, tmp_path):
    directories = []
    for name in ("a", "b"):
        callback = NetworkLossLogger("same", str(tmp_path / "logs"))
        run(ppo(), callback, directory=name)
        directories.append(callback.directory)
        assert find_loss_logs(tmp_path / "ppo_toy" / name) == [callback.directory]
        assert read_losses(callback.directory, "ppo").steps == [STEPS * i for i in range(1, 5)]
    assert [path.name for path in directories] == ["same_loss_log", "same_loss_log-2"]


def test_resumed_run_goes_on_in_its_directory(run, tmp_path):
    checkpoint = tmp_path / "ppo_toy" / "run" / "checkpoints" / "step_64.ckpt"
    first = NetworkLossLogger()
    run(ppo(), first, more=[RolloutCheckpoint(every_env_steps=STEPS, save_best=False)])
    assert first._recorder is not None
    os.kill(first._recorder.process_id, signal.SIGKILL)  # instead of waiting for its last figure
    second = NetworkLossLogger()
    more = [RolloutCheckpoint(save_best=False)]
    run(ppo(), second, epochs=2, ckpt_path=checkpoint, more=more)
    assert second.directory == first.directory
    assert read_losses(second.directory, "ppo").steps == [STEPS * i for i in range(1, 9)]
    rows = (Path(second.directory) / "ppo_losses.csv").read_text().splitlines()
    assert len(rows) == 1 + 4 + 6
    assert load(second, "config.json")["resumes"] == [
        {"step": 64, "rows": {"ppo_losses.csv": 4, "total_losses.csv": 4}}
    ]
    assert load(second, "ppo_stats.json")["losses"]["actor_loss"]["count"] == 8

    third = NetworkLossLogger()
    run(ppo(), third)  # not resumed: a run of its own, though in the same directory
    assert third.directory is not None
    assert third.directory.name == "ppo_toy_loss_log-2"


def test_resumed_in_another_directory_starts_a_log_of_its_own(run, tmp_path):
    run(ppo(), NetworkLossLogger(), more=[RolloutCheckpoint(save_best=False)])
    callback = NetworkLossLogger()
    checkpoint = tmp_path / "ppo_toy" / "run" / "checkpoints" / "last.ckpt"
    more = [RolloutCheckpoint(save_best=False)]
    run(ppo(), callback, epochs=2, ckpt_path=checkpoint, directory="other", more=more)
    assert callback.directory is not None
    assert load(callback, "config.json")["resumes"] == []
    assert read_losses(callback.directory, "ppo").steps == [STEPS * i for i in range(5, 9)]


def test_fast_dev_run_writes_nothing(run, tmp_path):
    callback = NetworkLossLogger()
    run(ppo(), callback, fast_dev_run=True)
    assert callback.directory is None
    assert not (tmp_path / "ppo_toy").exists()


def test_unwritable_directory_does_not_stop_training(run, tmp_path, caplog):
    (tmp_path / "file").touch()
    module = ppo()
    run(module, NetworkLossLogger(log_dir=str(tmp_path / "file" / "logs")))
    assert module.env_steps == 4 * STEPS
    warning, summary = [text for text in caplog.messages if "loss recorder" in text]
    assert "no directory can be made in log_dir" in warning
    assert "offered 8 = written 0 + dropped 8 + invalid 0 rows" in summary


@pytest.mark.parametrize("kwargs", [{"update_interval": 0}, {"queue_size": -1}, {"experiment_name": "a/b"}])
def test_arguments_are_checked(kwargs):
    refused = (ValueError, MisconfigurationException)
    with pytest.raises(refused, match=f"NetworkLossLogger: .*{next(iter(kwargs))}"):
        NetworkLossLogger(**kwargs)
