"""What the documents of MAP-Elites name, looked for in what one ``--config systems/...`` leaves.

The lists are copied from document 000 (MAP-Elites with a loss recorder) and 001 (shared PPO over workers).
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_rl.cli import main, shipped
from lit_rl.cli.map_elites.translate import sizes

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

RECORDER = [  # {} is the name of the experiment; document 000 has sac_* "if it applies"
    "network_loss_logs/{}_loss_log/config.json",
    "network_loss_logs/{}_loss_log/attention_losses.csv",
    "network_loss_logs/{}_loss_log/attention_stats.json",
    "network_loss_logs/{}_loss_log/ppo_losses.csv",
    "network_loss_logs/{}_loss_log/ppo_stats.json",
    "network_loss_logs/{}_loss_log/gnn_losses.csv",
    "network_loss_logs/{}_loss_log/gnn_stats.json",
    "network_loss_logs/{}_loss_log/total_losses.csv",
    "network_loss_logs/{}_loss_log/total_stats.json",
    "network_loss_logs/{}_loss_log/network_loss_curves_realtime.png",
    "network_loss_logs/{}_loss_log/network_loss_curves_????????_??.png",
]
ARCHIVE = ["map_elites/archive.csv", "map_elites/archive.png", "map_elites/summary.json"]
FILES = {
    "map_elites_with_recorder": [*RECORDER, *ARCHIVE, "map_elites/best.gif"],
    "shared_ppo": [
        *RECORDER,
        *ARCHIVE,
        "training.log",
        "models/shared_ppo_model.pth",
        "models/shared_ppo_model_final.pth",
        "models/shared_ppo_model_[0-9]*.pth",
        "checkpoints/last.ckpt",  # training goes on after an interruption
    ],
}
"""Patterns within the run directory."""
FOLDERS = {"map_elites_with_recorder": "map_elites_results", "shared_ppo": "map_elites_shared_ppo_results"}
LOSSES = {
    "attention": ["attention_loss"],
    "ppo": ["actor_loss", "critic_loss"],
    "gnn": ["gnn_loss"],
    "total": ["total_loss"],
}
"""Names of the losses of each network."""
METRICS = {
    "map_elites_with_recorder": ["qd/score", "qd/coverage", "qd/evaluations", "loss/attention", "loss/gnn"],
    "shared_ppo": [
        "time/env_steps_per_s",  # speed at which experience is collected
        "update/policy_version",  # versions of the shared model
        "Sync/UpdateTime",
        "Sync/CollectionTime",
        "qd/score",
    ],
}

SMALL = [
    "--data.num_envs", "4", "--data.rollout_steps", "8", "--data.rollouts_per_bodies", "1",
    "--data.env_kwargs.num_steps", "8", "--data.env_kwargs.num_bodies", "4", "--data.num_goals", "2",
    "--data.eval_episodes", "2", "--data.rollouts_per_epoch", "6", "--model.hidden", "[4]",
    "--model.batch_size", "16", "--model.predict_batch_size", "32", "--model.update_epochs", "1",
    "--budget.total_env_steps", "768", "--trainer.callbacks.compare", "false", "--seed_everything", "1",
]  # fmt: skip
ALSO = {
    "map_elites_with_recorder": [],
    "shared_ppo": ["--data.num_workers", "2", "--checkpoint.every_env_steps", "256"],
}


class Left:
    """What a training of one system left behind."""

    def __init__(self, directory: Path, name: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(directory)
            main(["fit", "--config", f"systems/{name}", *SMALL, *ALSO[name]])
        self.run = (directory / FOLDERS[name] / name / "latest").resolve()
        self.losses = self.run / "network_loss_logs" / f"{name}_loss_log"
        self._patterns = [pattern.format(name) for pattern in FILES[name]]
        with (self.run / "metrics.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    @cached_property
    def missing(self) -> list[str]:
        """Patterns that no file matches, even after the recorder had time to draw its last picture."""
        deadline = time.monotonic() + 120
        while missing := [pattern for pattern in self._patterns if not any(self.run.glob(pattern))]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return missing


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """``left("shared_ppo")`` is that system after a small training."""
    return {name: Left(tmp_path_factory.mktemp(name), name) for name in FILES}.__getitem__


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_there(name: str, left: Callable[[str], Left]):
    assert left(name).missing == []


@pytest.mark.parametrize("name", FILES)
def test_every_metric_is_logged(name: str, left: Callable[[str], Left]):
    logged = {key for row in left(name).rows for key, value in row.items() if value}
    assert set(METRICS[name]) - logged == set()


@pytest.mark.parametrize("name", FILES)
def test_losses_of_every_network_are_those_that_the_learner_logged(name: str, left: Callable[[str], Left]):
    assert left(name).missing == []  # the recorder has ended
    for network, names in LOSSES.items():
        with (left(name).losses / f"{network}_losses.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["step", "timestamp", "source", *names]
        assert [row["step"] for row in rows] == [str(32 * (k + 1)) for k in range(24)]
        assert {row["source"] for row in rows} == {"measured"}
    with (left(name).losses / "gnn_losses.csv").open(newline="") as file:
        recorded = [float(row["gnn_loss"]) for row in csv.DictReader(file)]
    assert recorded == pytest.approx([float(row["loss/gnn"]) for row in left(name).rows if row["loss/gnn"]])


@pytest.mark.parametrize("name", FILES)
def test_a_network_that_is_not_trained_is_said_to_be_missing(name: str, left: Callable[[str], Left]):
    assert left(name).missing == []
    networks = json.loads((left(name).losses / "config.json").read_text())["networks"]
    missing = {network for network, known in networks.items() if known["status"] == "missing"}
    assert missing == {"sac"}
    assert networks["sac"]["reason"] == "the learner is PPO"
    assert not any(left(name).losses.glob("sac_*"))


def test_the_log_tells_of_updates_and_the_model_is_what_training_ended_with(left: Callable[[str], Left]):
    run = left("shared_ppo").run
    lines = (run / "training.log").read_text().splitlines()
    assert "training progress: 32/768 (4.2%), updates: 1" in lines[0]
    final = torch.load(run / "models/shared_ppo_model_final.pth", weights_only=True)
    assert final["state_dict"]["_extra_state"]["env_steps"] == 768
    assert any(key.startswith("gnn_network.encoder") for key in final["state_dict"])


def as_given(name: str) -> dict[str, Any]:
    """The content of a shipped system."""
    return yaml.safe_load((shipped.directory() / f"systems/{name}.yaml").read_text())


def test_sizes_are_those_of_the_documents():
    recorder, shared = map(as_given, FILES)
    assert sizes(recorder) == {
        "num_generations": 20,
        "individuals_per_generation": 5,
        "num_initial_random": 10,
        "training_steps_per_individual": 2000,
    }
    found = sizes(shared)
    assert (found["num_initial_random"], found["training_steps_per_individual"]) == (8, 1500)
    data, model = shared["data"]["init_args"], shared["model"]["init_args"]
    assert data["num_workers"] == 4  # max_workers
    assert data["num_envs"] * data["rollout_steps"] == 20_000  # buffer_size
    assert data["rollout_steps"] == 100  # update_interval
    assert model["batch_size"] == 1000  # min_batch_size
    assert model["hidden"] == [256, 256]  # hidden_dim
    settings = recorder["trainer"]["callbacks"][0]["init_args"]
    assert settings == {"update_interval": 15, "queue_size": 50000}


def test_three_joints_have_the_observation_and_action_of_the_document():
    from lit_rl import MorphologyDataModule

    data = MorphologyDataModule(4, 8, env_kwargs={"joints": [3], "num_bodies": 2, "morph": False})
    assert list(data.spec.observation.shape) == [14]
    assert data.spec.action.shape == [3]
    data.teardown("fit")
