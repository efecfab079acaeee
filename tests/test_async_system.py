"""What document 002 names of the learner, looked for in what ``--config systems/go2_async`` leaves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_rl.cli import main
from tests import wandb_file

pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")

LEARNER = [
    "sac/actor_loss",
    "sac/critic_loss",
    "sac/entropy",
    "sac/temperature",
    "sac/temperature_loss",
    "learner/update_steps",
    "learner/replay_buffer_size",
    "timer/sample_replay_buffer",
    "timer/train",
    "timer/total",
    "eval/mean_reward",
    "eval/success_rate",
    "eval/mean_length",
    "actor/replay_buffer_size",
]
SMALL = {
    "data.transport": "in_process",  # a learner alone; what actors leave is tested beside their log
    "data.steps_per_batch": "8",
    "data.updates_per_step": "0.5",
    "data.warmup_steps": "16",
    "data.batch_size": "4",
    "data.batches_per_epoch": "4",
    "data.eval_episodes": "1",
    "data.env_kwargs.max_traj_length": "20",
    "model.hidden": "[4]",
    "budget.total_env_steps": "120",  # means of actors follow every 50
}


def train(directory: Path) -> Path:
    small = [token for key, value in SMALL.items() for token in (f"--{key}", value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        main(["fit", "--config", "systems/go2_async", "--seed_everything", "1", *small])
    return (directory / "runs/go2_async/latest").resolve()


def ended(run: Path) -> wandb_file.WandbFile:
    """Wait for the process beside the trainer, which ends the run of W&B after it, and read the run."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in wandb_file.find(run):
            if (file := wandb_file.read(path)).exit_code is not None:
                return file
        time.sleep(0.2)
    raise AssertionError(f"W&B did not end its run below {run}")


def test_every_name_of_the_learner_is_recorded(tmp_path: Path):
    run = train(tmp_path)
    file = ended(run)
    assert (file.project, file.group, file.job_type) == ("go2_sac_training", "GO2_SAC_Training", "learner")
    assert (file.name, file.exit_code) == ("Learner-go2_sac_walking_training", 0)
    recorded = {name for row in file.rows for name in row}
    assert set(LEARNER) - recorded == set()
    axes = dict.fromkeys(("sac/*", "learner/*", "timer/*"), "learner/update_steps")
    assert axes.items() <= file.axes.items()
    events = EventAccumulator(str(run))
    events.Reload()
    assert set(LEARNER) - set(events.Tags()["scalars"]) == set()
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert set(LEARNER) - set(header) == set()
