"""What the documents of the HMASD systems name, looked for in what one ``--config systems/...`` leaves.

The lists are copied from these documents: 003 (synchronous training with enhanced reward tracking), 004 (its
quick start) and 000 (the loss recorder).
"""

from __future__ import annotations

import csv
import json
import re
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rl.callbacks import tensorboard_server
from lit_rl.cli import main, shipped
from tests.test_map_elites_systems import FILES as OF_MAP_ELITES

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

TAGS = {
    "hmasd_sync": [  # document 003
        "Training/Episode_Reward",
        "Training/Episode_Length",
        "Training/Avg_Reward_10ep",
        "Training/Skill_Diversity_Recent",
        "Training/Episodes_Completed",
        "Training/Skill_Switches_Total",
        "Sync/Total_Updates",
        "Sync/Current_Policy_Version",
        "Sync/Avg_Efficiency_10updates",
        "Sync/Avg_Collection_Time_10updates",
        "Sync/Avg_Update_Time_10updates",
        "Performance/Episode_System_Throughput_Mbps",
        "Performance/Episode_Connected_Users",
        "Performance/Episode_Coverage_Ratio",
        "Eval/MeanReward",
        "Eval/StdReward",
        "Skills/Current/TeamSkill",  # which skills are in use, as its origin logged it
        "Skills/Current/Agent0_Skill",
        "Skills/EpisodeCounts/TeamSkill_0",
    ],
    "hmasd_quickstart": [  # document 004
        "Sync/PolicyVersion",
        "Losses/Coordinator/Total",
        "Losses/Discoverer/Total",
        "Rewards/HighLevel/K_Step_Accumulated_Mean",
        "Buffer/SamplesCollected",
        "Buffer/env_0_contribution",  # statistics of what each environment contributes
        "Buffer/env_1_contribution",
        "Performance/Episode_Coverage_Ratio",  # performance is recorded by itself
        "Eval/MeanReward",  # the reward in evaluations goes up
    ],
}

RECORDER = [  # document 000, for the networks that HMASD has; {} is the name of the experiment
    "network_loss_logs/{}_loss_log/config.json",
    "network_loss_logs/{}_loss_log/attention_losses.csv",
    "network_loss_logs/{}_loss_log/attention_stats.json",
    "network_loss_logs/{}_loss_log/ppo_losses.csv",
    "network_loss_logs/{}_loss_log/ppo_stats.json",
    "network_loss_logs/{}_loss_log/total_losses.csv",
    "network_loss_logs/{}_loss_log/total_stats.json",
    "network_loss_logs/{}_loss_log/network_loss_curves_realtime.png",
    "network_loss_logs/{}_loss_log/network_loss_curves_????????_??.png",
]

FILES = {
    "hmasd_sync": [
        "models/hmasd_sync_enhanced_tracking.pt",
        "models/hmasd_sync_enhanced_tracking_final.pt",
        "models/hmasd_sync_enhanced_tracking_[0-9]*.pt",
        "events.out.tfevents.*",
        "paper_data/episode_rewards_step_[0-9]*.csv",
        "paper_data/sync_metrics_step_[0-9]*.csv",
        "paper_data/reward_components_step_[0-9]*.csv",
        "paper_data/skill_usage_step_[0-9]*.json",
        "paper_data/sync_training_progress_step_[0-9]*.png",
        "paper_data/sync_training_summary.json",
        "logs/*.log",
        *RECORDER,
    ],
    "hmasd_quickstart": [
        "models/hmasd_sync_enhanced_final.pth",
        "models/hmasd_sync_enhanced_[0-9]*.pth",
        "events.out.tfevents.*",
        "logs/*.log",
        *RECORDER,
    ],
}
"""Patterns within the run directory, which lies in the documents' ``tf-logs``."""

COLUMNS = {
    "episode_rewards": "episode,env_id,total_reward,episode_length,timestamp,"
    "env_component,team_disc_component,ind_disc_component",
    "sync_metrics": "policy_version,samples_collected,collection_time,update_time,sync_efficiency",
    "reward_components": "step,env_id,component,value",
}
KEYS = {
    "skill_usage_step_*.json": {"team_skills", "skill_switches", "total_steps", "sync_updates"},
    "sync_training_summary.json": {
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
    },
}

SMALL = {
    "data.env.init_args.num_steps": "8",
    "data.num_envs": "2",
    "data.batch_env_steps": "32",
    "data.rollouts_per_epoch": "11",
    "data.eval_episodes": "2",
    "model.hidden": "[4]",
    "model.embedding": "4",
    "model.gru": "4",
    "model.update_epochs": "1",
    "model.discriminator_epochs": "1",
    "checkpoint.every_env_steps": "500",
    "budget.total_env_steps": "1056",
}
"""33 updates within a second or two; an export of paper data comes after 1,000 env steps."""


class NoServer:
    """Stands in for the process of the TensorBoard server and opens no port; it keeps what it was told."""

    is_open = True

    def __init__(self, module: str) -> None:
        self.module, self.channel, self.told = module, self, dict[str, Any]()

    def send(self, options: dict[str, Any]) -> None:
        self.told |= options

    def receive(self) -> list[tuple[str, str]]:
        return []

    def kill(self) -> None:
        pass


class Left:
    """What a training of one system left behind."""

    def __init__(self, directory: Path, name: str) -> None:
        self.servers: list[NoServer] = []
        small = [token for key, value in SMALL.items() for token in (f"--{key}", value)]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(directory)
            patch.setattr(tensorboard_server, "Companion", self._serve)
            main(["fit", "--config", f"systems/{name}", "--seed_everything", "1", *small])
        self.folder = directory / "tf-logs" / name
        self.run = (self.folder / "latest").resolve()
        self._patterns = [pattern.format(name) for pattern in FILES[name]]
        with (self.run / "metrics.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    def _serve(self, module: str) -> NoServer:
        self.servers.append(NoServer(module))
        return self.servers[-1]

    @cached_property
    def missing(self) -> list[str]:
        """Patterns that no file matches, even after other processes had time to draw the last pictures."""
        deadline = time.monotonic() + 120
        while missing := [pattern for pattern in self._patterns if not any(self.run.glob(pattern))]:
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return missing


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Left]:
    """``left("hmasd_sync")`` is that system after a small training; pictures of both are drawn meanwhile."""
    return {name: Left(tmp_path_factory.mktemp(name), name) for name in FILES}.__getitem__


@pytest.mark.parametrize("name", TAGS)
def test_every_tag_is_logged(name: str, left: Callable[[str], Left]):
    events = EventAccumulator(str(left(name).run), size_guidance={"scalars": 1})
    events.Reload()
    assert set(TAGS[name]) - set(events.Tags()["scalars"]) == set()
    in_csv = {key for row in left(name).rows for key, value in row.items() if value}
    assert set(TAGS[name]) - in_csv == set()


@pytest.mark.parametrize("name", FILES)
def test_a_tensorboard_server_shows_the_run_on_port_6006(name: str, left: Callable[[str], Left]):
    (server,) = left(name).servers
    assert server.module == "lit_rl.callbacks.companions.tensorboard_process"
    assert (server.told["host"], server.told["port"]) == ("127.0.0.1", 6006)
    assert Path(server.told["logdir"]) == left(name).run


@pytest.mark.parametrize("name", FILES)
def test_the_log_tells_of_each_synchronous_update(name: str, left: Callable[[str], Left]):
    text = (left(name).run / "logs" / "sync_training.log").read_text()
    for line in (
        "sync update starts: 32 samples collected, policy version 15",
        "sync update done: policy version now 16, sample count reset",
        "training progress: 512/1056 (48.5%), updates: 16, episodes: 64",
    ):
        assert line in text


def test_columns_of_the_paper_data(left: Callable[[str], Left]):
    folder = left("hmasd_sync").run / "paper_data"
    for kind, columns in COLUMNS.items():
        files = sorted(folder.glob(f"{kind}_step_*.csv"))
        assert [path.name for path in files] == [f"{kind}_step_{step}.csv" for step in (1024, 1056)]
        assert {path.read_text().splitlines()[0] for path in files} == {columns}
    with (folder / "episode_rewards_step_1024.csv").open(newline="") as file:
        episodes = list(csv.DictReader(file))
    assert [row["episode"] for row in episodes] == [str(k + 1) for k in range(128)]
    for row in episodes:
        parts = [float(row[f"{part}_component"]) for part in ("env", "team_disc", "ind_disc")]
        assert float(row["total_reward"]) == pytest.approx(sum(parts))
        assert parts[1] < 0 > parts[2]  # logarithms of probabilities
    with (folder / "reward_components_step_1056.csv").open(newline="") as file:
        components = {(row["step"], row["env_id"], row["component"]) for row in csv.DictReader(file)}
    assert components == {("1056", env, part) for env in "01" for part in ("env", "team_disc", "ind_disc")}


def test_keys_of_the_paper_data(left: Callable[[str], Left]):
    folder = left("hmasd_sync").run / "paper_data"
    for pattern, keys in KEYS.items():
        for path in folder.glob(pattern):
            assert keys <= json.loads(path.read_text()).keys()
    usage = json.loads((folder / "skill_usage_step_1056.json").read_text())
    assert (usage["total_steps"], usage["sync_updates"]) == (1056, 33)
    assert usage["team_skills"].keys() <= {"0", "1", "2"}
    assert sum(usage["team_skills"].values()) == 33 * 2 * 2  # two episodes of each environment in a batch


MODELS = {
    "hmasd_sync": ("hmasd_sync_enhanced_tracking", ".pt"),
    "hmasd_quickstart": ("hmasd_sync_enhanced", ".pth"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_are_the_best_the_last_and_the_periodic_ones(name: str, left: Callable[[str], Left]):
    stem, ending = MODELS[name]
    folder = left(name).run / "models"
    expected = {f"{stem}{suffix}{ending}" for suffix in ("", "_final", "_500", "_1000")}
    assert {path.name for path in folder.iterdir()} == expected
    final = torch.load(folder / f"{stem}_final{ending}", weights_only=True)
    assert final["state_dict"]["_extra_state"]["env_steps"] == 1056


def as_given(name: str) -> dict[str, Any]:
    """The content of a shipped configuration."""
    return yaml.safe_load((shipped.directory() / f"{name}.yaml").read_text())


@pytest.mark.parametrize("name", FILES)
def test_sizes_are_those_of_the_documents(name: str):
    config = as_given(f"systems/{name}")
    data = config["data"]["init_args"]
    assert (data["num_envs"], data["batch_env_steps"]) == (32, 1024)
    assert config["budget"]["total_env_steps"] == 4_000_000
    assert config["checkpoint"]["every_env_steps"] == 320_000
    assert config["checkpoint"]["models"] == "".join(MODELS[name]).removesuffix(".pt")


@pytest.mark.parametrize("name", FILES)
def test_what_is_learned_is_hmasd_on_the_uav_network(name: str):
    """The system and the experiment whose results are published do not drift apart."""
    ours, published = as_given(f"systems/{name}"), as_given("hmasd_uav")
    for part in published:
        assert ours[part] == published[part], part


@pytest.mark.parametrize(
    ("name", "option", "callback"),
    [("hmasd_sync", "export_interval", "PaperExport"), ("hmasd_quickstart", "port", "TensorBoardServer")],
)
def test_an_option_of_the_last_callback_may_be_given(
    name: str, option: str, callback: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main(
            ["fit", "--config", f"systems/{name}", f"--trainer.callbacks.{option}", "6500", "--print_config"]
        )
    *_, last = yaml.safe_load(capsys.readouterr().out)["trainer"]["callbacks"]
    assert last["class_path"] == f"lit_rl.callbacks.{callback}"
    assert last["init_args"][option] == 6500
    others = as_given(f"systems/{name}")["trainer"]["callbacks"][-1].get("init_args", {})
    assert others.items() <= last["init_args"].items()


def test_every_system_is_tried_here():
    systems = {name.partition("/")[2] for name in shipped.names() if name.startswith("systems/")}
    assert FILES.keys() == TAGS.keys()
    assert systems == FILES.keys() | OF_MAP_ELITES.keys() | {"go2_async"}  # its own file tries it


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_there(name: str, left: Callable[[str], Left]):
    assert left(name).missing == []
    assert re.fullmatch(r"\d{8}-\d{6}-seed1", left(name).run.name)  # tf-logs/<system>/<time>-seed<seed>


@pytest.mark.parametrize("name", FILES)
def test_networks_that_hmasd_does_not_have_are_said_to_be_missing(name: str, left: Callable[[str], Left]):
    assert left(name).missing == []  # the recorder has ended
    (directory,) = left(name).run.glob("network_loss_logs/*")
    networks = json.loads((directory / "config.json").read_text())["networks"]
    assert {network for network, known in networks.items() if known["status"] == "missing"} == {"gnn", "sac"}
    assert all(networks[network]["reason"] for network in ("gnn", "sac"))
    assert not any(directory.glob("gnn_*"))
    assert not any(directory.glob("sac_*"))
