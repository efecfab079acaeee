"""Data modules whose environments are played by worker processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch

from lit_rl import PPO, ReplayDataModule, RolloutDataModule
from lit_rl.collect.workers.collector import WorkersCollector
from tests.cases import CASES
from tests.toys import MemoryLogger, fit

ON_POLICY = [name for name, make in CASES.items() if not isinstance(make(1)[1], ReplayDataModule)]


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


@pytest.mark.parametrize("name", ON_POLICY)
def test_one_worker_trains_as_the_process_of_the_trainer_does(name: str):
    """Bit for bit: every learner, its memory, normalizers and evaluations, and bodies that change."""
    inline, expected = run(name, collector="inline", num_workers=None)
    workers, logger = run(name, collector="workers", num_workers=1)
    for (key, ours), theirs in zip(workers.state_dict().items(), inline.state_dict().values(), strict=True):
        if isinstance(ours, torch.Tensor):
            assert torch.equal(ours, theirs), key
    for ours, theirs in zip(comparable(logger), comparable(expected), strict=True):
        assert str(ours) == str(theirs)  # NaN equals itself here


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"collector": "worker"}, "collector = 'worker', expected inline or workers: .*workers"),
        ({"collector": "workers", "num_workers": 5}, "num_workers = 5 is more than num_envs = 4"),
        (
            {"collector": "workers", "vectorization": "async"},
            "collector = workers contradicts vectorization = async: its processes step environments already",
        ),
    ],
)
def test_arguments_that_contradict_each_other(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as caught:
        RolloutDataModule("CartPole-v1", 4, 8, 1, **changes)
    assert "\n" not in str(caught.value)


class Stubborn(PPO):
    """A learner that holds something which no other process can have."""

    def build(self, spec: Any) -> None:
        super().build(spec)
        self.__dict__["lock"] = Lock()


def test_a_learner_that_cannot_act_elsewhere_is_refused():
    data = RolloutDataModule("CartPole-v1", 2, 8, 1, collector="workers", num_workers=1, eval_episodes=1)
    with pytest.raises(TypeError, match="worker processes act by the policy, but Stubborn cannot be pick"):
        fit(Stubborn(hidden=(4,), batch_size=16), data)
