"""A few robots of an actor run without the compiler, and do the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.without_compiler import VARIABLE, leave_out_compiler

PLAY = """\
import sys
import numpy as np
from lit_rl.envs.vector import make_vector_env
env = make_vector_env("GO2-v0", 2, env_kwargs={"task": "joystick", "critic": True, "max_traj_length": 40})
rng = np.random.default_rng(0)
obs, rows = env.reset(3), []
for _ in range(120):
    step = env.step(rng.uniform(-1, 1, (2, 12)).astype(np.float32))
    rows.append(np.concatenate([step.obs["observation"], step.obs["critic"], step.reward[:, None]], 1))
np.save(sys.argv[1], np.stack(rows))
print("numba" in sys.modules)
"""


def test_the_quadruped_does_the_same_without_the_compiler(tmp_path: Path):
    played = []
    for without in ("0", "1"):
        path = tmp_path / f"{without}.npy"
        environment = {**os.environ, VARIABLE: without, "PYTHONPATH": str(Path(__file__).parents[2])}
        command = [sys.executable, "-W", "error", "-c", PLAY, str(path)]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(without == "0")
        played.append(np.load(path))
    np.testing.assert_allclose(*played, rtol=1e-5, atol=1e-5)


def test_only_few_robots_that_can_do_without_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "lit_rl.envs.jit", raising=False)
    for env, num_envs, expected in (
        ("GO2-v0", 3, None), ("Arm-v0", 1, None), ({"class_path": "x"}, 1, None), ("GO2-v0", 2, "1"),
    ):  # fmt: skip
        monkeypatch.setenv(VARIABLE, "")
        monkeypatch.delenv(VARIABLE)
        leave_out_compiler(env, num_envs)
        assert os.environ.get(VARIABLE) == expected


def test_a_process_that_compiles_goes_on_to(monkeypatch: pytest.MonkeyPatch):
    make_vector_env("GO2-v0", 1).close()
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    leave_out_compiler("GO2-v0", 1)
    assert VARIABLE not in os.environ
