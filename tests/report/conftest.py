import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

HEAD = "step,episode/return_mean,loss/value,time/env_steps_per_s,update/policy_version,eval/return_mean"

MakeRun = Callable[..., Path]


def process_json(state: str = "finished", **changes: Any) -> dict[str, Any]:
    """What the command line writes; by default of a process that ended well."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": 1000.0,
        "ended": 1090.0,
        "create_time": None,
        "state": state,
        "exit_code": 0,
        "total_env_steps": 400,
        **changes,
    }


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``make_run("a", seed=1)`` writes a run directory with four rows, or with ``rows``."""

    def make(
        name: str,
        seed: int | bool = 1,
        rows: list[str] | None = None,
        head: str = HEAD,
        process: dict[str, Any] | None = None,
        env: str = "CartPole-v1",
        **arguments: Any,
    ) -> Path:
        path = tmp_path / "runs" / name
        (path / "checkpoints").mkdir(parents=True)
        config = {
            "seed_everything": seed,
            "trainer": {"accelerator": "cpu", "callbacks": [name], "precision": None},
            "model": {"class_path": "lit_rl.PPO", "init_args": {"clip": 0.2, **arguments}},
            "data": {"class_path": "lit_rl.RolloutDataModule", "init_args": {"env": env, "seed": None}},
            "budget": {"total_env_steps": 400},
            "checkpoint": {"every_batches": seed},
        }
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        versions = {"lit_rl": "0.1.0", "cpu": "a <fast> one", "git": {"commit": "abc123", "dirty": True}}
        (path / "versions.json").write_text(json.dumps(versions))
        base = 10.0 * int(seed)
        default = [
            f"{100 * k},{base + k},{1 / k},{1000.0 + k},{k}.0,{base * k if k > 2 else ''}"
            for k in (1, 2, 3, 4)
        ]
        (path / "metrics.csv").write_text("\n".join([head, *(default if rows is None else rows), ""]))
        (path / "process.json").write_text(json.dumps(process or process_json()))
        return path

    return make
