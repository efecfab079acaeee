from __future__ import annotations

import re
from pathlib import Path

import pytest

from lit_rl import PPO, SAC, ReplayDataModule, RolloutDataModule, metrics
from tests.toys import ContinuousEpisodes57, Episodes57, fit

NAMES = {value for key, value in vars(metrics).items() if key.isupper() and isinstance(value, str)}


def test_every_name_has_a_definition():
    assert metrics.METRICS.keys() == NAMES
    of_learners = r"[a-z]+/[a-z_]*"
    groups = (
        "Training|Performance|Eval|Sync|Buffer|Losses|Entropy|Rewards|ValueEstimates|Skills|"
        "actor|eval|sac|learner|timer"
    )
    of_earlier_systems = rf"({groups})/[A-Za-z0-9_{{}}/]+"
    for name, metric in metrics.METRICS.items():
        assert re.fullmatch(f"{of_learners}|{of_earlier_systems}", name)
        assert len(metric.definition) > 20 or metric.definition.startswith(("Number", "Lowest", "Length"))
        assert not metric.definition.endswith(".")
    units = {name: metric.unit for name, metric in metrics.METRICS.items() if metric.unit}
    assert all(units[name] == "s" for name in NAMES if name.endswith("_s") and not name.endswith("_per_s"))
    assert all(units[name] == "s" for name in NAMES if name.startswith("timer/") or "Time" in name)


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_everything_that_is_logged_is_defined(algorithm: str):
    if algorithm == "ppo":
        module, data = (
            PPO(hidden=(4,), batch_size=16),
            RolloutDataModule(Episodes57, 2, 16, 2, eval_episodes=2),
        )
    else:
        module = SAC(hidden=(4,))
        data = ReplayDataModule(ContinuousEpisodes57, 2, 8, batch_size=4, warmup_steps=8, batches_per_epoch=2)
    logger = fit(module, data, limit_val_batches=1.0)
    logged = set().union(*(values for _, values in logger.rows))
    assert logged <= NAMES
    # and what the learner's help promises is logged
    help_text = (type(module).__doc__ or "").partition("Logs:")[2].partition("Args:")[0]
    promised = set(re.findall(r"``(\w+/\w+)``", help_text))
    assert promised
    assert promised <= logged
    ours = {"loss", "policy", "value"}
    assert {name for name in logged if name.partition("/")[0] in ours} <= promised


def test_names_are_written_once():
    """Learners take them from here, so that a name changes in one place."""
    literal = re.compile(r"[\"'](?:loss|policy|value|update|time|episode|eval)/\w+[\"']")
    for path in (Path(metrics.__file__).parent / "algos").rglob("*.py"):
        assert not literal.findall(path.read_text()), path.name


def test_values_of_info_that_are_recorded_are_logged():
    data = RolloutDataModule("Pendulum-v1", 2, 8, 1, record=[], eval_episodes=1)
    assert not any(
        name.startswith("env/") for _, row in fit(PPO(hidden=(4,), batch_size=16), data).rows for name in row
    )
    data = RolloutDataModule("HalfCheetah-v5", 1, 4, 1, record=["reward_forward"], eval_episodes=1)
    (row,) = (row for _, row in fit(PPO(hidden=(4,), batch_size=4), data).rows)
    assert isinstance(row["env/reward_forward"], float)


def test_recorded_values_of_evaluations_are_means_over_episodes():
    data = RolloutDataModule(Episodes57, 2, 16, 1, record=["height"], eval_episodes=2, seed=0)
    logger = fit(PPO(hidden=(4,), batch_size=16), data, limit_val_batches=1.0)
    (mean,) = (row["eval/env/height"] for _, row in logger.rows if "eval/env/height" in row)
    (length,) = (row["eval/length_mean"] for _, row in logger.rows if "eval/length_mean" in row)
    assert mean == (length + 1) / 2  # heights 1 to 5, or 1 to 7
