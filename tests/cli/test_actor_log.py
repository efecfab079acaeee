"""What an actor leaves behind, under the names of the document of the GO2 training."""

from __future__ import annotations

import csv
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rl.cli import act
from lit_rl.cli.actor_log import ActorLog, wandb_options
from lit_rl.cli.errors import CommandError
from lit_rl.cli.layers import callback_arguments, read_layers
from lit_rl.remote.actor import ActorStats
from lit_rl.types import Step
from tests import wandb_file

EPISODE = [  # document 002, at the end of each episode
    "actor/episode_reward",
    "actor/episode_length",
    "actor/episode_count",
    "actor/total_steps",
    "actor/avg_action_magnitude",
    "actor/exploration_phase",
]
REGULAR = [  # document 002, every log_period steps
    "actor/avg_episode_reward_10",
    "actor/max_episode_reward",
    "actor/min_episode_reward",
    "actor/avg_episode_length_10",
    "actor/steps_per_second",
]
TIMERS = ["timer/sample_actions", "timer/step_env", "timer/total"]
OF_LINK = ["actor/policy_version"]


def episodes(num: int) -> Iterator[dict[str, float]]:
    """What an actor tells after each of ``num`` episodes of two steps with the rewards 1 and 2."""
    stats, no = ActorStats(1), np.zeros(1, bool)
    for k in range(num):
        for reward in (1.0, 2.0):
            ends = np.array([reward == 2.0])
            step = Step(
                np.zeros((1, 2), np.float32), np.array([reward], np.float32), no, ends, None, None, {}
            )
            for values in stats.add(np.full((1, 2), 3.0, np.float32), step, k == 0, 0.0, 0.0):
                yield values | dict.fromkeys(OF_LINK, 0.0)


def options(*configs: str, **given: str) -> dict[str, object]:
    config = read_layers(configs)
    found = wandb_options("actor-1", callback_arguments(config, "WandbRun"), config, **given)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an actor that played three episodes of ``systems/go2_async``."""
    directory = tmp_path_factory.mktemp("run") / "actors"
    quick = {"start_delay_s": 0.0, "finish_timeout_s": 120.0}  # patient on a busy machine
    log = ActorLog("actor-1", str(directory), 10.0, options("systems/go2_async") | quick)
    assert not directory.exists()  # the learner makes the run directory
    for values in episodes(3):
        log(values)
    log.close()
    log.close()
    return directory


def test_wandb_has_every_name_of_the_document(left: Path):
    [path] = wandb_file.find(left)
    file = wandb_file.read(path)
    assert (file.project, file.group) == ("go2_sac_training", "GO2_SAC_Training")
    assert (file.name, file.job_type, file.exit_code) == ("Actor-go2_sac_walking_training", "actor", 0)
    assert len(file.rows) == 3
    assert file.rows[0].keys() >= {*EPISODE, *REGULAR, *TIMERS}
    assert file.column("actor/episode_reward") == [3.0] * 3
    assert file.column("actor/total_steps") == [2.0, 4.0, 6.0]
    assert file.column("actor/exploration_phase") == [1.0, 0.0, 0.0]
    assert file.column("actor/avg_action_magnitude") == pytest.approx([18**0.5] * 3)
    axes = {"actor/*": "actor/total_steps", "timer/*": "actor/total_steps"}
    assert axes.items() <= file.axes.items()
    assert file.config["actor"] == "actor-1"
    assert file.config["data"]["init_args"]["env"] == "GO2-v0"


def test_csv_and_tensorboard_have_the_same(left: Path):
    with (left / "actor_actor-1.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["actor/total_steps"]) for row in rows] == [2.0, 4.0, 6.0]
    assert rows[0].keys() >= {*EPISODE, *REGULAR, *TIMERS}
    events = EventAccumulator(str(left / "actor_actor-1"))
    events.Reload()
    assert {*EPISODE, *REGULAR, *TIMERS} <= set(events.Tags()["scalars"])
    reward = events.Scalars("actor/episode_reward")
    assert [(point.step, point.value) for point in reward] == [(2, 3.0), (4, 3.0), (6, 3.0)]


@pytest.mark.parametrize(
    ("configs", "given", "expected"),
    [
        (["callbacks/wandb_go2_actor"], {}, "Actor-go2_sac_walking_training"),
        (["callbacks/wandb_go2_learner"], {}, "Actor-go2_sac_walking_training"),
        (["callbacks/wandb_go2_learner"], {"run": "mine"}, "mine"),
        (["callbacks/wandb"], {}, "Actor-actor-1"),
        (["sac_pendulum"], {"mode": "offline"}, "Actor-actor-1"),
    ],
)
def test_an_actor_is_named_beside_its_learner(configs, given, expected):
    found = options(*configs, **given)
    assert (found["name"], found["mode"], found["job_type"]) == (expected, "offline", "actor")


def test_no_run_where_none_was_asked_for():
    assert wandb_options("a", None, {}) is None
    assert wandb_options("a", {"mode": "disabled"}, {}) is None
    assert wandb_options("a", {"mode": "online"}, {}, mode="disabled") is None
    with pytest.raises(CommandError, match="mode of WandbRun must be offline, online, disabled, got 'on'"):
        wandb_options("a", {"mode": "on"}, {})


def test_debug_records_no_run_of_an_actor(monkeypatch):
    given = act._parser().parse_args(["--config", "systems/go2_async"])
    monkeypatch.delenv("WANDB_MODE", raising=False)
    assert act._wandb(given, "a") is not None
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert act._wandb(given, "a") is None


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = ActorLog("a", None, 10.0)
    for values in episodes(1):
        log(values)
    log.close()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_wandb_is_one_warning_and_playing_goes_on(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "lit_rl")
    log = ActorLog("a", str(tmp_path), 10.0, options("callbacks/wandb_go2_actor"))
    assert log._wandb is not None
    companion = log._wandb._companion
    assert companion is not None
    os.kill(companion.pid, signal.SIGKILL)
    companion._process.wait()
    companion.channel.push_interval_s = 0.0
    for values in episodes(4):
        log(values)
    log.close()
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning == "W&B is off from here on (its process has ended); the actor plays on without it"
    assert len((tmp_path / "actor_a.csv").read_text().splitlines()) == 5


def test_a_full_disk_is_one_warning_and_playing_goes_on(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "lit_rl")
    (tmp_path / "file").write_text("where the folder should be")
    log = ActorLog("a", str(tmp_path / "file"), 10.0)
    for values in episodes(2):
        log(values)
    log.close()
    [warning] = [record.getMessage() for record in caplog.records]
    assert warning.endswith("cannot be written: File exists; the actor plays on without")
