"""Nothing that is shipped escapes the tests that run over the lists of ``tests/cases.py``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from lightning.pytorch import LightningDataModule

import lit_rl
from lit_rl import HMASD, PPO, SAC, TD3, ReplayDataModule, RolloutDataModule
from lit_rl.algos.module import RLModule
from lit_rl.collect.inline import InlineCollector
from tests import cases
from tests.golden_runs import CHECKPOINTS, GOLDEN, RUNS

CONFIGS = Path(__file__).parents[1] / "configs"


def without_case(shipped: Iterable[type], covered: Iterable[type]) -> list[str]:
    """What to do about classes that have no case."""
    missing = sorted(cls.__name__ for cls in set(shipped) - set(covered))
    return [f"add a small case for {name} to tests/cases.py" for name in missing]


def test_every_learner_has_a_case():
    shipped = cases.shipped_learners()
    assert {HMASD, PPO, SAC, TD3} <= shipped
    assert RLModule not in shipped
    assert without_case(shipped, cases.covered_learners()) == []


def test_every_data_module_has_a_case():
    shipped = cases.shipped_data_modules()
    assert {ReplayDataModule, RolloutDataModule} <= shipped
    assert LightningDataModule not in shipped
    assert without_case(shipped, cases.covered_data_modules()) == []


def test_every_collector_is_listed():
    shipped = cases.shipped_collectors()
    assert InlineCollector in shipped
    listed = []
    for make in cases.COLLECTORS.values():
        collector = make("CartPole-v1", 1, 0)
        listed.append(type(collector))
        collector.close()
    missing = sorted(cls.__name__ for cls in shipped - set(listed))
    assert [f"add {name} to COLLECTORS in tests/cases.py" for name in missing] == []


def test_every_learner_and_data_module_is_exported():
    shipped = cases.shipped_learners() | cases.shipped_data_modules()
    missing = sorted(cls.__name__ for cls in shipped if not cases.is_exported(cls))
    assert [f"export {name} from lit_rl/__init__.py (_HOME and __all__)" for name in missing] == []


def test_every_learner_has_a_configuration():
    files = [yaml.safe_load(path.read_text()) for path in CONFIGS.glob("*.yaml")]
    configured = {file["model"]["class_path"].rpartition(".")[2] for file in files}
    missing = sorted(cls.__name__ for cls in cases.shipped_learners() if cls.__name__ not in configured)
    assert [f"add configs/{name.lower()}_<environment>.yaml" for name in missing] == []


def test_every_learner_has_a_golden_run():
    golden = {type(make(1)[0]) for make in RUNS.values()}
    missing = sorted(cls.__name__ for cls in cases.shipped_learners() - golden)
    assert [f"take a case of {name} out of NOT_GOLDEN in tests/cases.py" for name in missing] == []
    unwritten = [
        f"run: python -m tests.golden_runs {command} {name}"
        for name in RUNS
        for command, path in (
            ("write", GOLDEN / f"{name}.json"),
            ("write_checkpoints", CHECKPOINTS / f"{name}.json"),
            ("write_checkpoints", CHECKPOINTS / f"{name}.ckpt"),
        )
        if not path.exists()
    ]
    assert unwritten == []


def test_cases_without_a_golden_run_exist():
    assert set(cases.NOT_GOLDEN) < cases.CASES.keys()


def test_a_new_learner_is_missed(monkeypatch: pytest.MonkeyPatch):
    """Exporting a class is enough, and so is a class in a file of ``lit_rl/algos`` that nobody exports."""
    DDPG = type("DDPG", (RLModule,), {})
    monkeypatch.setattr(lit_rl, "DDPG", DDPG, raising=False)
    monkeypatch.setattr(lit_rl, "__all__", [*lit_rl.__all__, "DDPG"])
    assert DDPG in cases.shipped_learners()
    assert without_case(cases.shipped_learners(), cases.covered_learners()) == [
        "add a small case for DDPG to tests/cases.py"
    ]
    hidden = ModuleType("lit_rl.algos.critics")
    hidden.DQN = type("DQN", (RLModule,), {"__module__": hidden.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, hidden.__name__, hidden)
    assert hidden.DQN in cases.shipped_learners()
    assert not cases.is_exported(hidden.DQN)
