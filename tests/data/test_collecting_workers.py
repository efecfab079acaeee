"""Data modules whose environments are played by worker processes."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback

from lit_rl import PPO, MorphologyDataModule, Predictor, ReplayDataModule, RolloutDataModule
from lit_rl.algos.lag import compare_with_behaviour
from lit_rl.collect.workers.collector import WorkersCollector
from lit_rl.collect.workers.policy import _pickle, unpickle
from lit_rl.nets import EncoderFactory
from tests.cases import CASES, few, ppo_ahead
from tests.toys import MemoryLogger, fit, make_trainer

OFF_POLICY = ["sac_pendulum", "sac_legged", "td3_pendulum"]
COLLECTED = [
    name for name, make in CASES.items() if not isinstance(make(1)[1], ReplayDataModule) or name in OFF_POLICY
]


def run(name: str, **changes: Any) -> tuple[torch.nn.Module, MemoryLogger]:
    """Fit a case with other arguments of its environments, from one seed."""
    torch.manual_seed(3)
    module, data = CASES[name](3)
    environments: Any = data.environments  # type: ignore[attr-defined]
    environments._arguments = dataclasses.replace(environments._arguments, **changes)
    return module, fit(module, data, limit_val_batches=1.0)


def comparable(logger: MemoryLogger) -> list[Any]:
    return [
        (step, {name: value for name, value in row.items() if not name.startswith(("time/", "collector/"))})
        for step, row in logger.rows
    ]


@pytest.mark.parametrize("name", few(COLLECTED, "ppo_bodies"))
def test_one_worker_trains_as_the_process_of_the_trainer_does(name: str):
    """Bit for bit: every learner, its memory, normalizers and evaluations, and bodies that change."""
    inline, expected = run(name, collector="inline", num_workers=None)
    workers, logger = run(name, collector="workers", num_workers=1)
    for (key, ours), theirs in zip(workers.state_dict().items(), inline.state_dict().values(), strict=True):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs), key
    for ours, theirs in zip(comparable(logger), comparable(expected), strict=True):
        assert str(ours) == str(theirs)  # NaN equals itself here


def test_an_encoder_of_the_command_line_travels_as_its_class_and_arguments():
    """What the command line makes of a ``class_path`` holds its parser, with locks that cannot be pickled."""
    parser = ArgumentParser()
    parser.add_argument("--encoder", type=EncoderFactory)
    given = {"class_path": "lit_rl.encoders.attention.AttentionEncoder", "init_args": {"width": 16}}
    factory = parser.instantiate(parser.parse_object({"encoder": given})).encoder
    received = unpickle(_pickle(factory, []), [])
    assert (received.func.__name__, received.keywords["width"]) == ("AttentionEncoder", 16)


def test_what_the_collector_reports_is_logged():
    _, logger = run("ppo_workers")
    rows = [row for _, row in logger.rows if "collector/wait_s" in row]
    assert len(rows) == 3
    assert all(row["collector/restarts"] == row["collector/reclaimed"] == 0 for row in rows)
    assert all(row["collector/policy_lag"] == 0 for row in rows)
    assert all(0 < row["collector/wait_s"] <= row["time/collect_s"] for row in rows)
    assert rows[-1]["collector/buffer_mib"] > 0.01
    per_rollout = rows[-1]["collector/experience_per_s"] / (rows[-1]["collector/updates_per_min"] / 60)
    assert per_rollout == pytest.approx(4 * 32)


def test_no_process_is_left_after_a_fit(monkeypatch: pytest.MonkeyPatch):
    pids: list[int] = []
    begin = WorkersCollector.collect

    def collect(self: WorkersCollector, *args: Any) -> Any:
        pids[:] = self.workers.pids
        return begin(self, *args)

    monkeypatch.setattr(WorkersCollector, "collect", collect)
    run("ppo_workers")
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not any(
        "lit_rl" in str(fd.readlink()) for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()
    )


class Kills(Callback):
    """Kills a worker after the first batch."""

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if pl_module.policy_version == 1:
            os.kill(trainer.datamodule.environments.collector.workers.pids[1], signal.SIGKILL)


def test_a_run_goes_on_when_a_worker_is_killed():
    module, data = CASES["ppo_workers"](3)
    logger = fit(module, data, limit_val_batches=1.0, callbacks=[Kills()])
    rows = [row for _, row in logger.rows if "collector/restarts" in row]
    assert [row["collector/restarts"] for row in rows] == [0, 1, 1]
    assert module.env_steps == 3 * 128


def test_rollouts_collected_ahead_are_as_old_as_is_allowed():
    """Their ratios are those to the policy that acted, and 1 where that is the present one."""
    torch.manual_seed(0)
    module, data = ppo_ahead(5)
    seen: list[tuple[int, Any]] = []

    class Watching(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            seen.append((pl_module.policy_version - batch["policy_version"], batch["extras"]["log_prob"]))

    logger = fit(module, data, limit_val_batches=1.0, callbacks=[Watching()])
    ages = [age for age, _ in seen]
    assert ages[0] == 0
    assert set(ages[1:]) <= {0, 1}
    assert all(log_prob.shape == (32, 4) for _, log_prob in seen)
    rows = [row for _, row in logger.rows if "lag/ratio_mean" in row]
    assert [row["collector/policy_lag"] for row in rows] == ages
    assert rows[0]["lag/ratio_max"] == pytest.approx(1, abs=1e-5)
    assert rows[0]["lag/effective_share"] == pytest.approx(1, abs=1e-5)
    assert all(0 < row["lag/effective_share"] <= 1 + 1e-9 for row in rows)
    assert module.env_steps == 5 * 128


def test_a_run_ahead_goes_on_after_a_checkpoint(tmp_path: Path):
    """What was collected ahead is left; counters, weights and episodes go on."""
    module, data = ppo_ahead(2)
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again, data = ppo_ahead(2)
    trainer = make_trainer(max_epochs=2)
    trainer.fit(again, datamodule=data, ckpt_path=tmp_path / "x.ckpt", weights_only=True)
    assert (again.policy_version, again.env_steps) == (4, 4 * 128)


def test_a_learner_of_present_policies_only_refuses_rollouts_ahead():
    _, data = ppo_ahead(1)
    with pytest.raises(ValueError, match=r"max_policy_lag = 1 needs a learner .* \(PPO\), got Predictor"):
        fit(Predictor(hidden=(4,), batch_size=60), data)


def test_effective_sample_size_by_hand():
    """Ratios 1, 2 and 3: their mean is 2, and (1 + 2 + 3)^2 / (3 * (1 + 4 + 9)) = 6 / 7."""
    rollout: Any = {"extras": {"log_prob": torch.zeros(2, 2)}, "valid": torch.tensor([[1, 1], [1, 0]]).bool()}
    log_prob = torch.tensor([[1.0, 2.0], [3.0, 100.0]]).log()
    behaviour, values = compare_with_behaviour(log_prob, rollout)
    assert torch.equal(behaviour, torch.zeros(2, 2))
    assert values["lag/ratio_mean"] == pytest.approx(2, abs=1e-6)
    assert values["lag/ratio_max"] == pytest.approx(3, abs=1e-6)
    assert values["lag/effective_share"] == pytest.approx(6 / 7, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"collector": "worker"},
            "collector = 'worker', expected inline, workers or ray.*Did you mean workers",
        ),
        (
            {"max_policy_lag": 1},
            "max_policy_lag = 1 needs collector = workers or ray, got collector = inline",
        ),
        (
            {"collector": "workers", "update_interval": 100},
            "update_interval = 100 needs max_policy_lag of at least 1",
        ),
        ({"buffer_size": 100}, "buffer_size = 100 needs collector = workers, got inline"),
        (
            {"collector": "workers", "buffer_size": 63, "max_policy_lag": 1},
            r"buffer_size = 63 has no room for max_policy_lag \+ 1 = 2 rollouts of 32 .* which need 64",
        ),
        ({"collector": "workers", "num_workers": 5}, "num_workers = 5 is more than num_envs = 4"),
        (
            {"collector": "workers", "vectorization": "async"},
            "collector = workers contradicts vectorization = async: its processes step environments already",
        ),
        ({"ray_address": "auto"}, "ray_address = 'auto' needs collector = ray, got collector = inline"),
    ],
)
def test_arguments_that_contradict_each_other(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as caught:
        RolloutDataModule("CartPole-v1", 4, 8, 1, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", [RolloutDataModule, ReplayDataModule, MorphologyDataModule])
def test_ray_that_is_not_installed(kind: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lit_rl.collect.fleet.session.find_spec", lambda name: None)
    message = r"^collector = ray needs Ray, which is not installed: pip install 'lit-rl\[fleet\]'$"
    with pytest.raises(ValueError, match=message):
        kind(**{"collector": "ray"} | ({} if kind is MorphologyDataModule else {"env": "CartPole-v1"}))


class Stubborn(PPO):
    """A learner that holds something which no other process can have."""

    def build(self, spec: Any) -> None:
        super().build(spec)
        self.__dict__["lock"] = Lock()


def test_a_learner_that_cannot_act_elsewhere_is_refused():
    data = RolloutDataModule("CartPole-v1", 2, 8, 1, collector="workers", num_workers=1, eval_episodes=1)
    with pytest.raises(TypeError, match="worker processes act by the policy, but Stubborn cannot be pick"):
        fit(Stubborn(hidden=(4,), batch_size=16), data)
