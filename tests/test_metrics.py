from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from lit_rl import PPO, RolloutDataModule, metrics
from lit_rl.algos.module import RLModule
from lit_rl.algos.monitors import promised
from tests.cases import CASES, covered_learners
from tests.toys import Episodes57, fit

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


def is_defined(name: str) -> bool:
    """Whether the table has a name, or one with ``{}`` or with its beginning that stands for it."""
    patterns = (f"{known}*" if known.endswith("/") else known.replace("{}", "*") for known in NAMES)
    return any(fnmatchcase(name, pattern) for pattern in patterns)


@pytest.mark.parametrize("learner", sorted(covered_learners(), key=str), ids=lambda cls: cls.__name__)
def test_everything_that_a_learner_logs_is_defined_and_promised(learner: type):
    logged: set[str] = set()
    for name, make in CASES.items():
        module, data = make(2)
        if type(module) is learner:
            rows = fit(module, data, limit_val_batches=1.0).rows
            undefined = sorted(key for _, row in rows for key in row if not is_defined(key))
            assert undefined == [], f"{name}: define them in lit_rl/metrics.py"
            logged.update(*(row for _, row in rows))
    assert {metrics.EVAL_RETURN, metrics.EPISODES, metrics.UPDATE_SECONDS} <= logged
    patterns = promised(learner)
    not_promised = sorted(name for name in logged if not any(fnmatchcase(name, p) for p in patterns))
    assert not_promised == [], f"name them under Logs in the help of {learner.__name__}"
    own = patterns - promised(RLModule) if learner is not RLModule else patterns
    assert own
    not_logged = sorted(p for p in own if not any(fnmatchcase(name, p) for name in logged))
    assert not_logged == [], f"the help of {learner.__name__} promises them"


def test_names_with_a_part_left_open_are_defined():
    assert all(
        map(is_defined, ("env/height", "eval/env/height", "Skills/Current/Agent3_Skill", "loss/value"))
    )
    assert not any(map(is_defined, ("loss/values", "environment/height", "Skills/Current/Agent3")))


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
