"""Names of the systems that lit_rl replaces, each looked for in the files of real runs.

The lists are copied from their documents, not from ``lit_rl/metrics.py``: a name that is misspelt there must
fail here.
"""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rl import Predictor, RolloutDataModule, metrics
from lit_rl.cli import main
from tests import wandb_file
from tests.cases import TOKEN_ENCODERS, ppo_ahead, sac_rlpd
from tests.remote.toys import Learner, Player
from tests.token_toys import Joints
from tests.toys import fit
from tests.wandb_file import WandbFile

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

TRAINING = [  # document 003, and the extras of its origin
    "Training/Episode_Reward",
    "Training/Episode_Length",
    "Training/Avg_Reward_10ep",
    "Training/Episodes_Completed",
    "Training/Reward_Mean_100ep",
    "Training/Reward_Std_100ep",
    "Training/Reward_Min_100ep",
    "Training/Reward_Max_100ep",
    "Sync/Total_Updates",
    "Sync/Current_Policy_Version",
    "Sync/Avg_Efficiency_10updates",
    "Sync/Avg_Collection_Time_10updates",
    "Sync/Avg_Update_Time_10updates",
    "Sync/BatchSize",
    "Sync/CollectionTime",
    "Sync/UpdateTime",
    "Sync/SamplesCollected",
    "Eval/MeanReward",
    "Eval/StdReward",
    "Eval/MinReward",
    "Eval/MaxReward",
    "Sync/PolicyVersion",  # document 004
    "Buffer/SamplesCollected",
    "Buffer/env_0_contribution",
    "Buffer/env_1_contribution",
    "actor/episode_reward",  # document 002
    "actor/episode_length",
    "actor/episode_count",
    "actor/total_steps",
    "actor/exploration_phase",
    "actor/avg_episode_reward_10",
    "actor/max_episode_reward",
    "actor/min_episode_reward",
    "actor/avg_episode_length_10",
    "actor/steps_per_second",
    "eval/mean_reward",
    "eval/mean_length",
    "learner/update_steps",
    "timer/train",
    "timer/total",
    "timer/sample_actions",
    "timer/step_env",
    "timer/eval",
]
"""Logged by every learner."""

PERFORMANCE = [
    "Performance/Episode_System_Throughput_Mbps",
    "Performance/Episode_Connected_Users",
    "Performance/Episode_Coverage_Ratio",
    "eval/success_rate",
]
"""Logged when the environment reports them."""

SAC = [
    "actor/avg_action_magnitude",
    "actor/replay_buffer_size",
    "sac/actor_loss",
    "sac/critic_loss",
    "sac/entropy",
    "sac/temperature",
    "sac/temperature_loss",
    "learner/replay_buffer_size",
    "timer/sample_replay_buffer",
]
"""Logged by SAC, besides those of every learner."""

SKILLS = [  # documents 003 and 004, and the extras of their origin
    "Training/Skill_Diversity_Recent",
    "Training/Skill_Switches_Total",
    "Losses/Coordinator/Total",
    "Losses/Coordinator/Policy",
    "Losses/Coordinator/Value",
    "Losses/Discoverer/Total",
    "Losses/Discoverer/Policy",
    "Losses/Discoverer/Value",
    "Losses/Discriminator/Total",
    "Entropy/Coordinator/TeamSkill_Z",
    "Entropy/Coordinator/AgentSkill_z_Average",
    "Entropy/Discoverer/Action",
    "Rewards/HighLevel/K_Step_Accumulated_Mean",
    "Rewards/Intrinsic/LowLevel_Average",
    "Rewards/Intrinsic/Components/Environmental_Portion_Average",
    "Rewards/Intrinsic/Components/TeamDiscriminator_Portion_Average",
    "Rewards/Intrinsic/Components/IndividualDiscriminator_Portion_Average",
    "ValueEstimates/Coordinator/StateValue_Mean",
    "ValueEstimates/Coordinator/AgentValue_Average_Mean",
    "ValueEstimates/Discoverer/Value_Mean",
    "Buffer/low_level_buffer_size",
    "Buffer/high_level_buffer_size",
    "Buffer/high_level_samples_total",
    "Skills/Current/TeamSkill",
    "Skills/Current/Agent0_Skill",
    "Skills/Current/Agent1_Skill",
    "Skills/Current/Diversity",
    "Skills/EpisodeCounts/TeamSkill_0",
    "Skills/EpisodeCounts/AgentSkill_1",
]
"""Logged by HMASD, besides those of every learner."""

AXES = {
    "actor/*": "actor/total_steps",
    "sac/*": "learner/update_steps",
    "learner/*": "learner/update_steps",
    "timer/*": "learner/update_steps",
}


class Network(gymnasium.Env):
    """Ten steps that report what the network of base stations will."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    t = 0

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        reported = {"system_throughput_mbps": 40.0, "connected_users": 7.0, "coverage_ratio": 0.5}
        obs = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return obs, float(action), False, self.t == 10, {**reported, "is_success": float(self.t == 10)}


class Run:
    """A finished run, read back from its files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with (directory / "metrics.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))
        self.in_csv = {name for name in self.rows[0] if any(row[name] for row in self.rows)}
        self.events = EventAccumulator(str(directory), size_guidance={"scalars": 0})
        self.events.Reload()
        self.in_events = set(self.events.Tags()["scalars"])
        (path,) = wandb_file.find(directory)
        self.wandb: WandbFile = wandb_file.read(path)
        self.in_wandb = {name for row in self.wandb.rows for name in row}


def train(directory: Path, *arguments: str) -> Run:
    """Train with the shipped layer that watches, and wait for what other processes still write."""
    run_dir = directory / "run"
    watch = ["--config", "callbacks/watch", "--run_dir", str(run_dir), "--seed_everything", "1"]
    main(["fit", *arguments, *watch])
    deadline = time.monotonic() + 180
    while not _is_complete(run_dir):
        assert time.monotonic() < deadline, sorted(str(path) for path in run_dir.rglob("*"))
        time.sleep(0.1)
    return Run(run_dir)


def _is_complete(run_dir: Path) -> bool:
    """Whether the pictures, which are drawn at the end by other processes, and the W&B file are there."""
    pictures = [
        "network_loss_logs/*/network_loss_curves_realtime.png",
        "network_loss_logs/*/network_loss_curves_????????_??.png",
        "paper_data/sync_training_progress_step_*.png",
    ]
    files = wandb_file.find(run_dir)
    has_ended = bool(files) and wandb_file.read(files[0]).exit_code is not None
    return has_ended and all(any(run_dir.glob(pattern)) for pattern in pictures)


@pytest.fixture(scope="module")
def ppo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("ppo")
    config = {
        "model": {"class_path": "PPO", "init_args": {"hidden": [4], "batch_size": 20}},
        "data": {
            "class_path": "RolloutDataModule",
            "init_args": {
                "env": {"class_path": f"{__name__}.Network"},
                "num_envs": 2,
                "rollout_steps": 20,
                "eval_episodes": 2,
                "record": [
                    "system_throughput_mbps",
                    "connected_users",
                    "coverage_ratio",
                    "is_success",
                ],
            },
        },
        "budget": {"total_env_steps": 1200},
    }
    (directory / "network.yaml").write_text(yaml.safe_dump(config))
    return train(directory, "--config", str(directory / "network.yaml"))


@pytest.fixture(scope="module")
def sac(tmp_path_factory: pytest.TempPathFactory) -> Run:
    small = {
        "model.hidden": "[4]",
        "data.num_envs": "2",
        "data.warmup_steps": "200",
        "data.batch_size": "8",
        "data.batches_per_epoch": "5",
        "data.eval_episodes": "2",
        "budget.total_env_steps": "1400",
    }
    flags = [token for key, value in small.items() for token in (f"--{key}", value)]
    return train(tmp_path_factory.mktemp("sac"), "--config", "sac_pendulum", *flags)


@pytest.fixture(scope="module")
def hmasd(tmp_path_factory: pytest.TempPathFactory) -> Run:
    small = {
        "model.hidden": "[4]",
        "model.gru": "null",
        "model.update_epochs": "1",
        "model.discriminator_epochs": "1",
        "model.k": "5",
        "data.num_envs": "2",
        "data.rollout_steps": "100",
        "data.rollouts_per_epoch": "6",
        "data.eval_episodes": "2",
        "budget.total_env_steps": "1200",
    }
    flags = [token for key, value in small.items() for token in (f"--{key}", value)]
    configs = ["--config", "hmasd_alice_bob", "--config", "callbacks/skills"]
    return train(tmp_path_factory.mktemp("hmasd"), *configs, *flags)


@pytest.mark.parametrize("place", ["in_csv", "in_events", "in_wandb"])
def test_names_of_every_learner(ppo: Run, sac: Run, hmasd: Run, place: str):
    for run in (ppo, sac, hmasd):
        assert set(TRAINING) - getattr(run, place) == set()
    assert set(PERFORMANCE) - getattr(ppo, place) == set()


@pytest.mark.parametrize("place", ["in_csv", "in_events", "in_wandb"])
def test_names_of_sac(ppo: Run, sac: Run, place: str):
    assert set(SAC) - getattr(sac, place) == set()
    assert not any(name.startswith("sac/") for name in getattr(ppo, place))


@pytest.mark.parametrize("place", ["in_csv", "in_events", "in_wandb"])
def test_names_of_hmasd(hmasd: Run, place: str):
    assert set(SKILLS) - getattr(hmasd, place) == set()


def logged_by_encoders_alone() -> set[str]:
    """What ``Predictor`` logs of an encoder of each kind."""
    learners = [
        Predictor(encoder, hidden=(8,), batch_size=16, update_epochs=1)
        for encoder in (None, TOKEN_ENCODERS["attention"], TOKEN_ENCODERS["gnn"])
    ]
    data = [RolloutDataModule(Joints, 2, 8, 1, eval_episodes=1, check=False) for _ in learners]
    runs = map(fit, learners, data)
    return {name for run in runs for _, row in run.rows for name in row}


def logged_by_collecting_workers() -> set[str]:
    """What ``PPO`` logs of workers that collect ahead."""
    return {name for _, row in fit(*ppo_ahead(2)).rows for name in row}


def logged_with_demonstrations() -> set[str]:
    """What ``SAC`` logs where a share of its minibatches comes from a file."""
    return {name for _, row in fit(*sac_rlpd(2)).rows for name in row}


def logged_by_actors_elsewhere() -> set[str]:
    """What an actor tells of an episode, and what its learner says of actors."""
    learner, told = Learner(), list[dict[str, float]]()
    learner.publish()
    player = Player(learner.port, tell=told.append)
    learner.take(8)  # an episode has seven steps
    player.stop()
    said = learner.receiver.report(0, [0], 1, 0)
    learner.close()
    return told[0].keys() | said.keys()


def test_every_name_is_defined_and_every_definition_in_use(ppo: Run, sac: Run, hmasd: Run):
    logged = ppo.in_csv | sac.in_csv | hmasd.in_csv
    logged |= logged_by_encoders_alone() | logged_by_collecting_workers() | logged_by_actors_elsewhere()
    logged |= logged_with_demonstrations()
    defined = {re.sub(r"env_\d+_", "env_{}_", name) for name in logged}
    defined = {re.sub(r"Performance/Episode_\w+", "Performance/Episode_{}", name) for name in defined}
    defined = {re.sub(r"(Current/Agent|Counts/(?:Team|Agent)Skill_)\d+", r"\1{}", name) for name in defined}
    defined = {re.sub(r"^(eval/)?env/\w+", r"\1env/", name) for name in defined} - {"step"}
    assert defined - metrics.METRICS.keys() == set()
    of_archives = {name for name in metrics.METRICS if name.startswith("qd/")}  # tried with MapElites
    assert metrics.METRICS.keys() - defined - of_archives == {"Training/Success_Rate_100ep"} - defined


def test_the_axis_is_env_steps(ppo: Run, sac: Run):
    for run, total in ((ppo, 1200), (sac, 1480)):
        assert int(run.rows[-1]["step"]) == total
        for name in ("loss/policy", "Sync/PolicyVersion", "timer/train"):
            steps = [event.step for event in run.events.Scalars(name)]
            assert steps == sorted(steps)
            assert steps[-1] == total
        assert max(run.wandb.column("env_steps")) == total


def test_episodes_are_points_at_their_end(ppo: Run):
    # two environments that end together every ten steps
    events = [(event.step, event.value) for event in ppo.events.Scalars("Training/Episode_Length")]
    assert events == [(20 * (k // 2 + 1), 10) for k in range(120)]
    rows = [row for row in ppo.wandb.rows if "actor/episode_reward" in row]
    assert [row["actor/total_steps"] for row in rows] == [step for step, _ in events]


def test_families_of_wandb_have_their_axes(sac: Run):
    assert AXES.items() <= sac.wandb.axes.items()
    for pattern, axis in AXES.items():
        family = pattern.removesuffix("*")
        rows = [row for row in sac.wandb.rows if any(name.startswith(family) for name in row)]
        assert rows
        assert all(axis in row for row in rows)


def test_files_of_the_loss_recorder(ppo: Run, sac: Run):
    for run, network in ((ppo, "ppo"), (sac, "sac")):
        (directory,) = (run.directory / "network_loss_logs").glob("*_loss_log")
        names = {path.name for path in directory.iterdir()}
        assert {
            "config.json",
            f"{network}_losses.csv",
            f"{network}_stats.json",
            "network_loss_curves_realtime.png",
        } <= names
        assert not names & {"attention_losses.csv", "gnn_losses.csv"}  # there is no such network
        with (directory / f"{network}_losses.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["step"]) for row in rows] == [
            float(row["step"]) for row in run.rows if row["loss/policy"]
        ]
        assert [float(row["actor_loss"]) for row in rows] == [
            float(row["loss/policy"]) for row in run.rows if row["loss/policy"]
        ]
        assert "critic_loss" in rows[0]
    assert any((ppo.directory / "network_loss_logs").glob("*/total_losses.csv"))


COLUMNS = {
    "episode_rewards": "episode,env_id,total_reward,episode_length,timestamp,"
    "env_component,team_disc_component,ind_disc_component",
    "sync_metrics": "policy_version,samples_collected,collection_time,update_time,sync_efficiency",
}


def test_paper_data(ppo: Run, sac: Run):
    for run in (ppo, sac):
        folder = run.directory / "paper_data"
        for name, columns in COLUMNS.items():
            files = sorted(folder.glob(f"{name}_step_*.csv"))
            assert files
            assert {path.read_text().splitlines()[0] for path in files} == {columns}
        usage = json.loads(sorted(folder.glob("skill_usage_step_*.json"))[-1].read_text())
        assert {"team_skills", "skill_switches", "total_steps", "sync_updates"} <= usage.keys()
        summary = json.loads((folder / "sync_training_summary.json").read_text())
        assert {
            "total_episodes",
            "total_steps",
            "skill_switches",
            "sync_updates",
            "reward_mean",
            "reward_std",
            "reward_min",
            "reward_max",
            "avg_sync_efficiency",
            "final_policy_version",
        } <= summary.keys()
        assert summary["total_steps"] == int(run.rows[-1]["step"])
        assert summary["final_policy_version"] == int(float(run.rows[-1]["Sync/PolicyVersion"]))


def test_lines_of_synchronous_training(ppo: Run):
    text = (ppo.directory / "logs" / "sync_training.log").read_text()
    assert "sync update starts: 40 samples collected, policy version 29" in text
    assert "sync update done: policy version now 30, sample count reset" in text
    assert "training progress: 1200/1200 (100.0%), updates: 30, episodes: 120" in text


def test_watching_changes_nothing_that_is_learned(ppo: Run, tmp_path: Path):
    config = str(ppo.directory.parent / "network.yaml")
    main(["fit", "--config", config, "--run_dir", str(tmp_path / "run"), "--seed_everything", "1"])
    watched, alone = (
        torch.load(directory / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for directory in (ppo.directory, tmp_path / "run")
    )
    tensors = [name for name, value in alone.items() if isinstance(value, torch.Tensor)]
    assert tensors
    assert all(torch.equal(watched[name], alone[name]) for name in tensors)
