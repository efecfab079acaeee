import errno
import json
import logging
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks import paper_export
from lit_rl.callbacks.checkpoint import RolloutCheckpoint
from lit_rl.callbacks.env_step_budget import EnvStepBudget
from lit_rl.callbacks.paper.figure_process import FigureProcess
from lit_rl.callbacks.paper.files import HEADERS
from lit_rl.callbacks.paper.rows import PaperRows
from lit_rl.callbacks.paper_export import PaperExport
from lit_rl.types import AGENT_SKILLS, SKILL_START, TEAM_SKILL
from tests.processes import run_ranks
from tests.toys import ContinuousEpisodes57, Episodes57, fit, make_trainer

ENVS, STEPS, BATCHES = 2, 8, 6
BATCH = ENVS * STEPS


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """Steps of the figures that were asked for; no process is started."""
    asked = []
    monkeypatch.setattr(FigureProcess, "_start", lambda self, directory, step: asked.append(step))
    return asked


class Seen(Callback):
    """Keeps what was trained on."""

    def __init__(self):
        self.batches, self.components, self.seconds, self.env_steps = [], [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        values = pl_module.progress_metrics
        self.batches.append(batch)
        self.components.append(pl_module.reward_components)
        self.seconds.append((values["time/collect_s"], values["time/update_s"]))
        self.env_steps.append(pl_module.env_steps)

    def episodes(self, key):
        return torch.cat([batch["episodes"][key] for batch in self.batches]).tolist()


class WithComponents(PPO):
    """Reports parts of the reward that differ at every step."""

    def training_step(self, rollout, batch_idx):
        super().training_step(rollout, batch_idx)
        height = rollout["obs"][:-1, :, 1]
        self.reward_components = {
            "env": rollout["reward"],
            "team_disc": 0.1 * height - 1,
            "ind_disc": -0.3 * height,
            "other": height,
        }


class WithSkills(PPO):
    """Assigns the next of three team skills at each fourth step of its life, and at the start of episodes."""

    def initial_carry(self, num_envs):
        return {"clock": torch.zeros(num_envs, dtype=torch.int64)}

    def act(self, obs, carry, reset, *, greedy=False):
        decision = super().act(obs, {}, reset, greedy=greedy)
        clock = carry["clock"]
        team = clock // 4 % 3
        skills = {
            TEAM_SKILL: team,
            AGENT_SKILLS: torch.stack([team, team + 1], -1),
            SKILL_START: (clock % 4 == 0) | reset,
        }
        return decision._replace(carry={"clock": clock + 1}, extras=decision.extras | skills)


def learner(kind=PPO):
    return kind(hidden=(4,), batch_size=BATCH, update_epochs=1)


def train(directory, *callbacks, module=None, env=Episodes57, batches=BATCHES, **kwargs):
    data = RolloutDataModule(env, ENVS, STEPS, batches, seed=0)
    seen = Seen()
    fit(module or learner(), data, callbacks=[seen, *callbacks], default_root_dir=directory, **kwargs)
    return seen


def read(directory, kind, pattern="{}_step_*[0-9].csv"):
    """Rows of all files in the order of their steps, each a dict of strings."""
    rows = []
    paths = sorted(directory.glob(pattern.format(kind)), key=lambda path: int(path.stem.split("_")[3]))
    for path in paths:
        header, *lines = path.read_text().splitlines()
        assert header == HEADERS[kind]
        rows += [dict(zip(header.split(","), line.split(","), strict=True)) for line in lines]
    return rows


def column(rows, name):
    return [float(row[name]) for row in rows]


def summary(directory):
    return json.loads((directory / "sync_training_summary.json").read_text())


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "paper_data"


def test_every_episode_is_in_one_file_once(tmp_path, data_dir):
    seen = train(tmp_path, PaperExport(export_interval=20))
    rows = read(data_dir, "episode_rewards")
    assert column(rows, "episode") == list(range(1, len(rows) + 1))
    assert column(rows, "total_reward") == seen.episodes("episode_return")
    assert column(rows, "env_component") == seen.episodes("episode_return")
    assert column(rows, "episode_length") == seen.episodes("episode_length")
    assert column(rows, "env_id") == seen.episodes("env_index")
    assert set(column(rows, "team_disc_component") + column(rows, "ind_disc_component")) == {0.0}
    assert len(rows) > 10
    assert len(list(data_dir.glob("episode_rewards_step_*.csv"))) == 3


@pytest.mark.parametrize(
    ("interval", "steps"),
    [(1, [16, 32, 48, 64, 80, 96]), (16, [16, 32, 48, 64, 80, 96]), (17, [32, 64, 96]), (40, [48, 96])],
)
def test_exports_when_the_interval_is_passed_not_when_it_divides(tmp_path, data_dir, interval, steps):
    train(tmp_path, PaperExport(export_interval=interval), module=learner(WithSkills))
    for kind, suffix in (("sync_metrics", ".csv"), ("skill_usage", ".json")):
        written = data_dir.glob(f"{kind}_step_*{suffix}")
        assert sorted(int(path.stem.split("_")[-1]) for path in written) == steps


def test_rest_is_exported_at_the_end(tmp_path, data_dir):
    train(tmp_path, PaperExport(), batches=3)
    assert sorted(path.name for path in data_dir.iterdir()) == [
        "episode_rewards_step_48.csv",
        "skill_usage_step_48.json",
        "sync_metrics_step_48.csv",
        "sync_training_summary.json",
    ]


def test_a_run_without_episodes_has_a_file_with_the_header(tmp_path, data_dir):
    train(tmp_path, PaperExport(detailed_logging=True), env="Pendulum-v1", batches=1)
    assert (data_dir / "episode_rewards_step_16.csv").read_text() == HEADERS["episode_rewards"] + "\n"
    assert summary(data_dir)["reward_mean"] is None


def test_updates(tmp_path, data_dir):
    seen = train(tmp_path, PaperExport(export_interval=20))
    rows = read(data_dir, "sync_metrics")
    assert column(rows, "policy_version") == list(range(1, BATCHES + 1))
    assert column(rows, "samples_collected") == [BATCH] * BATCHES
    seconds = list(zip(column(rows, "collection_time"), column(rows, "update_time"), strict=True))
    assert seconds == seen.seconds
    assert column(rows, "sync_efficiency") == [BATCH / (collect + update) for collect, update in seconds]


def test_total_is_the_sum_of_components_over_episodes_that_span_batches(tmp_path, data_dir):
    seen = train(tmp_path, PaperExport(export_interval=20), module=learner(WithComponents))
    rows = read(data_dir, "episode_rewards")
    parts = [column(rows, f"{name}_component") for name in ("env", "team_disc", "ind_disc")]
    assert column(rows, "total_reward") == [env + team + own for env, team, own in zip(*parts, strict=True)]
    assert parts[0] == pytest.approx(seen.episodes("episode_return"))
    np.testing.assert_allclose(np.array(parts[1:]).T, slow_component_sums(seen), rtol=1e-12, atol=1e-12)
    assert summary(data_dir)["component_mismatches"] == 0


def slow_component_sums(seen):
    """Sums of team_disc and ind_disc of each episode, in the order of their ends."""
    running, sums = np.zeros((ENVS, 2)), []
    for batch, components in zip(seen.batches, seen.components, strict=True):
        ends = batch["terminated"] | batch["truncated"]
        for t in range(STEPS):
            for n in range(ENVS):
                running[n] += [float(components[name][t, n]) for name in ("team_disc", "ind_disc")]
                if ends[t, n]:
                    sums.append(running[n].copy())
                    running[n] = 0
    return sums


def test_statistics_of_the_summary(tmp_path, data_dir):
    train(tmp_path, PaperExport(export_interval=20), module=learner(WithComponents))
    total = np.array(column(read(data_dir, "episode_rewards"), "total_reward"))
    efficiency = column(read(data_dir, "sync_metrics"), "sync_efficiency")
    values = summary(data_dir)
    assert values.pop("run_id")
    assert values == pytest.approx(
        {
            "total_episodes": len(total),
            "total_steps": BATCHES * BATCH,
            "skill_switches": 0,
            "sync_updates": BATCHES,
            "reward_mean": total.mean(),
            "reward_std": total.std(ddof=1),
            "reward_min": total.min(),
            "reward_max": total.max(),
            "avg_sync_efficiency": np.mean(efficiency),
            "final_policy_version": BATCHES,
            "component_mismatches": 0,
            "rows_lost": 0,
        }
    )


def test_detailed_rows_are_sums_of_a_batch(tmp_path, data_dir):
    seen = train(tmp_path, PaperExport(detailed_logging=True), module=learner(WithComponents), batches=2)
    rows = read(data_dir, "reward_components")
    expected = {
        (env_steps, env, name): float(values[:, env].double().sum())
        for env_steps, components in zip(seen.env_steps, seen.components, strict=True)
        for name, values in components.items()
        for env in range(ENVS)
    }
    written = {(int(row["step"]), int(row["env_id"]), row["component"]): float(row["value"]) for row in rows}
    assert len(rows) == 2 * 4 * ENVS
    assert written == pytest.approx(expected)


def test_detailed_rows_of_a_learner_without_components_are_the_reward(tmp_path, data_dir):
    seen = train(tmp_path, PaperExport(detailed_logging=True), batches=2)
    rows = read(data_dir, "reward_components")
    assert {row["component"] for row in rows} == {"env"}
    assert column(rows, "value") == [
        float(value) for batch in seen.batches for value in batch["reward"].double().sum(0)
    ]


def test_skills(tmp_path, data_dir):
    seen = train(tmp_path, PaperExport(), module=learner(WithSkills))
    usage = json.loads((data_dir / "skill_usage_step_96.json").read_text())
    team, agents, switches, last = {}, {}, 0, [None] * ENVS
    for batch in seen.batches:
        extras = batch["extras"]
        for t in range(STEPS):
            for n in range(ENVS):
                skill = int(extras[TEAM_SKILL][t, n])
                if extras[SKILL_START][t, n]:
                    team[str(skill)] = team.get(str(skill), 0) + 1
                    for own in extras[AGENT_SKILLS][t, n].tolist():
                        agents[str(own)] = agents.get(str(own), 0) + 1
                    switches += not batch["reset"][t, n] and last[n] != skill
                last[n] = skill
    assert usage == {
        "team_skills": team,
        "agent_skills": agents,
        "skill_switches": switches,
        "total_steps": 96,
        "sync_updates": 6,
        "policy_has_skills": True,
    }
    assert summary(data_dir)["skill_switches"] == switches > 0
    assert list(usage["team_skills"]) == ["0", "1", "2"]


def test_a_policy_without_skills_says_so(tmp_path, data_dir):
    train(tmp_path, PaperExport(), batches=1)
    usage = json.loads((data_dir / "skill_usage_step_16.json").read_text())
    assert (usage["team_skills"], usage["agent_skills"], usage["skill_switches"]) == ({}, {}, 0)
    assert not usage["policy_has_skills"]


def test_replayed_minibatches_give_episodes_and_updates(tmp_path, data_dir):
    data = ReplayDataModule(
        ContinuousEpisodes57, 2, 8, batch_size=4, capacity=100, warmup_steps=16, batches_per_epoch=4, seed=0
    )
    seen = Seen()
    export = PaperExport(detailed_logging=True)
    fit(SAC(hidden=(4,)), data, callbacks=[seen, export], default_root_dir=tmp_path)
    rows = read(data_dir, "episode_rewards")
    assert column(rows, "total_reward") == seen.episodes("episode_return")
    assert column(read(data_dir, "sync_metrics"), "samples_collected")[1:] == [16] * 3
    assert read(data_dir, "reward_components") == []


# Resuming


def without_times(directory):
    rows = [
        {name: value for name, value in row.items() if not name.endswith(("time", "timestamp", "efficiency"))}
        for kind in HEADERS
        for row in read(directory, kind)
    ]
    totals = {
        name: value
        for name, value in summary(directory).items()
        if name not in ("run_id", "avg_sync_efficiency")
    }
    return rows, totals


def cartpole_run(directory, batches, ckpt_path=None, interval=40):
    """An environment that continues exactly."""
    export = PaperExport(export_interval=interval, detailed_logging=True)
    data = RolloutDataModule("CartPole-v1", ENVS, STEPS, batches, seed=0)
    module = learner(WithComponents)
    trainer = make_trainer(
        callbacks=[export, EnvStepBudget(batches * BATCH), RolloutCheckpoint(every_env_steps=1)],
        default_root_dir=directory,
        enable_checkpointing=True,
        max_epochs=-1,
        max_steps=-1,
    )
    torch.manual_seed(0)
    trainer.fit(module, data, ckpt_path=ckpt_path)
    return export


@pytest.mark.parametrize(
    "stop_at", [pytest.param(1, marks=pytest.mark.wide), 4, pytest.param(5, marks=pytest.mark.wide)]
)
def test_resumed_run_has_every_row_once(tmp_path, stop_at, caplog):
    cartpole_run(tmp_path / "whole", 10)
    cartpole_run(tmp_path / "parts", 7)
    with caplog.at_level(logging.INFO, "lit_rl"):
        cartpole_run(tmp_path / "parts", 10, tmp_path / f"parts/checkpoints/step_{stop_at * BATCH}.ckpt")
    whole, parts = without_times(tmp_path / "whole/paper_data"), without_times(tmp_path / "parts/paper_data")
    assert parts == whole
    assert "after env step" in caplog.text
    assert not (tmp_path / "parts/paper_data_2").exists()


def test_checkpoint_holds_plain_types(tmp_path):
    cartpole_run(tmp_path, 5)
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["PaperExport"]
    assert state["env_steps"] == state["exported_at"] == 5 * BATCH
    middle = torch.load(tmp_path / f"checkpoints/step_{4 * BATCH}.ckpt", weights_only=True)
    waiting = middle["callbacks"]["PaperExport"]["ranks"][0]["waiting"]
    assert [row.split(",")[0] for row in waiting["sync_metrics"]] == ["4"]


def test_removed_rows_are_told_in_one_line(tmp_path, caplog):
    cartpole_run(tmp_path, 7)
    with caplog.at_level(logging.INFO, "lit_rl"):
        cartpole_run(tmp_path, 8, tmp_path / f"checkpoints/step_{3 * BATCH}.ckpt")
    (line,) = [text for text in caplog.messages if text.startswith("PaperExport")]
    assert line.startswith("PaperExport removed ")
    assert "after env step 48" in line


def test_another_run_takes_another_directory(tmp_path, data_dir, caplog):
    train(tmp_path, PaperExport(), batches=1)
    before = {path.name: path.read_text() for path in data_dir.iterdir()}
    with caplog.at_level(logging.INFO, "lit_rl"):
        train(tmp_path, PaperExport(), batches=1)
    assert {path.name: path.read_text() for path in data_dir.iterdir()} == before
    assert len(list((tmp_path / "paper_data_2").iterdir())) == 4
    assert "another run has written" in caplog.text


def test_a_second_fit_of_the_same_run_goes_on(tmp_path, data_dir):
    export, module = PaperExport(), learner()
    for _ in range(2):
        train(tmp_path, export, module=module, batches=2)
    assert column(read(data_dir, "sync_metrics"), "policy_version") == [1, 2, 3, 4]
    assert not (tmp_path / "paper_data_2").exists()


def test_a_new_run_with_the_same_callback_begins_anew(tmp_path):
    export = PaperExport()
    for _ in range(2):
        train(tmp_path, export, batches=2)
    for name in ("paper_data", "paper_data_2"):
        assert column(read(tmp_path / name, "sync_metrics"), "policy_version") == [1, 2]


# Faults


def test_a_path_that_cannot_be_written_is_told_once_and_counted(tmp_path, data_dir, caplog):
    data_dir.write_text("in the way")

    class ClearTheWay(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if pl_module.policy_version == 4:
                export.state_dict()  # waits for the files
                data_dir.unlink()

    export = PaperExport(export_interval=32)
    seen = train(tmp_path, export, ClearTheWay())
    assert len(seen.batches) == BATCHES
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "PaperExport cannot write" in warning.getMessage()
    lost_episodes = sum(len(batch["episodes"]["env_index"]) for batch in seen.batches[:4])
    assert summary(data_dir)["rows_lost"] == 4 + lost_episodes
    assert column(read(data_dir, "sync_metrics"), "policy_version") == [5, 6]
    assert summary(data_dir)["total_episodes"] == len(seen.episodes("env_index"))


def test_a_full_disk_leaves_no_half_file(tmp_path, data_dir, monkeypatch, caplog):
    really_open = Path.open

    def open_on_a_full_disk(self, mode="r", *args, **kwargs):
        file = really_open(self, mode, *args, **kwargs)
        if mode == "xb":
            with file:
                file.write(b"a par")
            raise OSError(errno.ENOSPC, "No space left on device")
        return file

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    train(tmp_path, PaperExport(export_interval=1), batches=3)
    assert list(data_dir.iterdir()) == []
    assert sum("No space left on device" in text for text in caplog.messages) == 1


def test_an_exception_exports_what_was_trained_and_kills_the_figure(tmp_path, data_dir, monkeypatch):
    killed = []
    monkeypatch.setattr(FigureProcess, "kill", lambda self: killed.append(True))

    class Fails(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if batch_idx == 3:
                raise RuntimeError("it broke")

    with pytest.raises(RuntimeError, match="it broke"):
        train(tmp_path, PaperExport(), Fails())
    assert column(read(data_dir, "sync_metrics"), "policy_version") == [1, 2, 3]
    assert killed


def test_fast_dev_run_writes_nothing(tmp_path):
    train(tmp_path, PaperExport(), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_the_summary_is_renewed_while_training_goes_on(tmp_path, data_dir, monkeypatch):
    monkeypatch.setattr(paper_export, "SUMMARY_INTERVAL_S", 0.0)

    class Reads(Callback):
        steps: list[int] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            export.state_dict()  # waits for the files
            self.steps.append(summary(data_dir)["total_steps"])

    export = PaperExport(export_interval=32)
    train(tmp_path, export, Reads())
    assert Reads.steps == [0, 32, 32, 64, 64, 96]


@pytest.mark.parametrize("wrong", [{"export_interval": 0}, {"figure_interval_s": -1.0}])
def test_wrong_arguments(wrong):
    with pytest.raises(ValueError, match=f"PaperExport: {next(iter(wrong))} = "):
        PaperExport(**wrong)


def test_directory_can_be_chosen(tmp_path):
    train(tmp_path / "run", PaperExport(directory=str(tmp_path / "chosen")), batches=1)
    assert (tmp_path / "chosen/sync_metrics_step_16.csv").exists()


def test_figures_are_asked_for_at_exports_and_at_the_end(tmp_path, figures):
    train(tmp_path, PaperExport(export_interval=32, figure_interval_s=0.0))
    assert figures == [32, 64, 96, 96]
    figures.clear()
    train(tmp_path, PaperExport(export_interval=32))
    assert figures == [96]


def test_learning_is_not_changed(tmp_path):
    learned = []
    for callbacks in ([], [PaperExport(export_interval=1, detailed_logging=True)]):
        torch.manual_seed(0)
        module = learner()
        train(tmp_path, *callbacks, module=module)
        learned.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(*learned)


def test_memory_does_not_grow(tmp_path):
    seen = train(tmp_path, module=learner(WithComponents), batches=1)
    rows, batch, components = PaperRows(detailed=True), seen.batches[0], seen.components[0]

    def run(batches):
        for version in range(batches):
            rows.add_update(version, BATCH, 0.1, 0.2)
            rows.add_batch(batch, components, version, 0, 0.0)
            if version % 10 == 9:
                rows.take()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        after_warm_up = run(50)
        assert run(500) - after_warm_up < 50_000  # nothing is kept per batch
    finally:
        tracemalloc.stop()


# Several ranks


def _run_rank(directory):
    from tests.toys import make_trainer

    FigureProcess._start = lambda self, directory, step: None
    trainer = make_trainer(
        strategy="ddp",
        devices=2,
        use_distributed_sampler=False,
        callbacks=[PaperExport(export_interval=40, detailed_logging=True), RolloutCheckpoint()],
        enable_checkpointing=True,
        default_root_dir=directory,
    )
    seen = Seen()
    trainer.callbacks.insert(0, seen)
    trainer.fit(learner(WithSkills), RolloutDataModule(Episodes57, ENVS, STEPS, 4, seed=0))
    return {"return": seen.episodes("episode_return"), "env": seen.episodes("env_index")}


@pytest.mark.ddp
def test_every_rank_writes_its_own_rows(tmp_path, data_dir):
    seen = run_ranks(_run_rank, str(tmp_path), cwd=tmp_path)
    for rank, pattern in enumerate(("{}_step_*[0-9].csv", "{}_step_*_rank1.csv")):
        names = {path.name for path in data_dir.glob(pattern.format("episode_rewards"))}
        own = [name for name in names if ("rank" in name) == bool(rank)]
        rows = [
            row
            for name in sorted(own, key=lambda name: int(name.split("_")[3].split(".")[0]))
            for row in read(data_dir, "episode_rewards", name)
        ]
        assert column(rows, "total_reward") == seen[rank]["return"]
        assert column(rows, "env_id") == [env + rank * ENVS for env in seen[rank]["env"]]
        assert column(rows, "episode") == list(range(1, len(rows) + 1))
    totals = summary(data_dir)
    assert totals["total_episodes"] == len(seen[0]["return"]) + len(seen[1]["return"])
    assert totals["reward_mean"] == pytest.approx(np.mean(seen[0]["return"] + seen[1]["return"]))
    assert totals["total_steps"] == 2 * 4 * BATCH
    assert [path.name for path in data_dir.glob("skill_usage*rank*")] == []
    state = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["callbacks"]["PaperExport"]
    assert [rank["rewards"]["count"] for rank in state["ranks"]] == [len(rank["return"]) for rank in seen]
