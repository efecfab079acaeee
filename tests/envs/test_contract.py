"""Every environment and every adapter that is shipped keeps to the ``VectorEnv`` protocol."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pettingzoo import ParallelEnv

import lit_rl.envs
from lit_rl import check_vector_env
from lit_rl.envs.alice_bob import AliceAndBob, AliceAndBobParallel
from lit_rl.envs.arm import PlanarArm, PlanarArms, PlanarArmVector
from lit_rl.envs.go2 import Go2, Go2Batch, Go2Vector
from lit_rl.envs.gymnasium.batches import BATCHES
from lit_rl.envs.gymnasium.vector import GymnasiumVectorEnv
from lit_rl.envs.pettingzoo import ParallelVectorEnv
from lit_rl.envs.uav.network import UAVNetwork
from lit_rl.envs.uav.parallel import UAVParallelEnv
from lit_rl.envs.vector import make_vector_env
from lit_rl.envs.workers.vector import WorkerVectorEnv
from lit_rl.types import VectorEnv
from tests.parallel_toys import Leavers
from tests.toys import Episodes57, Mixed
from tests.worker_toys import Clocks, Saves

UAV = {"num_steps": 20, "num_uavs": 3, "num_users": 8}
ARM = {"joints": [3, 4, 5, 6], "num_bodies": 20, "num_steps": 30}

GO2: dict[str, Any] = {
    "task": "joystick", "actuator": "pd_torque_speed", "latency_ms": [0, 40], "action_smoothing": 0.3,
    "shift_m": 0.05, "gain_factor": [0.9, 1.1], "encoder_bias_rad": 0.015, "push_mps": 0.5,
    "push_every_s": [0.2, 0.4], "noise": 1.0, "history": 3, "critic": True, "resample_s": [0.3, 0.6],
    "max_traj_length": 40, "staggered": True,
}  # fmt: skip

CASES: dict[str, tuple[type, Callable[[int], VectorEnv], dict[str, Any]]] = {
    "alice and bob": (AliceAndBob, partial(AliceAndBob, record=["key0", "is_success"]), {}),
    "alice and bob, one-hot": (AliceAndBob, partial(AliceAndBob, one_hot=True), {}),
    "uav": (UAVNetwork, partial(UAVNetwork, record=["energy_j", "reward_energy"], **UAV), {"num_steps": 50}),
    "uav, discrete": (UAVNetwork, partial(UAVNetwork, actions="discrete", **UAV), {"num_steps": 50}),
    "uav, empty batteries": (UAVNetwork, partial(UAVNetwork, battery_j=1500.0, **UAV), {"num_steps": 50}),
    "uav, torch": (UAVNetwork, partial(UAVNetwork, backend="torch", **UAV), {"num_steps": 30}),
    "arm": (PlanarArms, partial(PlanarArms, num_steps=60, record=["is_success", "reward_distance"]), {}),
    "arm, tokens": (
        PlanarArms,
        partial(PlanarArms, layout="tokens", obstacles=[[0.2, 0.2, 0.05]], threads=2, **ARM),
        {},
    ),
    "arm, fixed goals": (PlanarArms, partial(PlanarArms, goals="spiral", layout="seed", **ARM), {}),
    "arm, mujoco": (
        PlanarArms,
        partial(PlanarArms, backend="mujoco", obstacles=[[0.2, 0.1, 0.05]], control="speed", **ARM),
        {},
    ),
    "go2": (
        Go2Batch,
        partial(Go2Batch, max_traj_length=60, record=["x_velocity", "is_success", "reward_tracking"]),
        {"num_steps": 130},
    ),
    "go2, everything": (Go2Batch, partial(Go2Batch, threads=2, **GO2), {"num_steps": 100}),
    "go2, copies": (Go2, partial(make_vector_env, Go2, env_kwargs=GO2), {"num_steps": 100}),
    "go2, by Gymnasium": (Go2Vector, partial(make_vector_env, Go2Vector, env_kwargs=GO2), {"num_steps": 100}),
    "arm, copies": (PlanarArm, partial(make_vector_env, PlanarArm, env_kwargs=ARM), {}),
    "arm, by Gymnasium": (PlanarArmVector, partial(make_vector_env, PlanarArmVector, env_kwargs=ARM), {}),
    "alice and bob, copies": (AliceAndBobParallel, partial(ParallelVectorEnv, AliceAndBobParallel), {}),
    "uav, copies": (
        UAVParallelEnv,
        partial(ParallelVectorEnv, UAVParallelEnv, env_kwargs=UAV, may_leave=False),
        {"num_steps": 30},
    ),
    "agents that leave": (
        ParallelVectorEnv,
        partial(ParallelVectorEnv, Leavers, env_kwargs={"masks": "info"}),
        {"num_steps": 30},
    ),
    "gymnasium, native": (
        GymnasiumVectorEnv,
        partial(make_vector_env, "CartPole-v1"),
        {"own_streams": False},
    ),
    "gymnasium, box": (GymnasiumVectorEnv, partial(make_vector_env, "Pendulum-v1"), {"num_steps": 210}),
    **{
        f"mujoco, {kind.__name__}": (kind, partial(kind, max_episode_steps=40), {"num_steps": 90})
        for kind in BATCHES.values()
    },
    "gymnasium, nested and masked": (
        GymnasiumVectorEnv,
        partial(make_vector_env, partial(Mixed, "multi", mask=True)),
        {"num_steps": 30},
    ),
    "gymnasium, metrics": (
        GymnasiumVectorEnv,
        partial(make_vector_env, Episodes57, record=["height"]),
        {"num_steps": 30},
    ),
    "gymnasium, next step": (
        GymnasiumVectorEnv,
        partial(make_vector_env, "CartPole-v1", vectorization="sync", autoreset="next_step"),
        {"num_steps": 100},
    ),
    "gymnasium, no autoreset": (
        GymnasiumVectorEnv,
        partial(make_vector_env, "CartPole-v1", vectorization="sync", autoreset="disabled"),
        {"num_steps": 100},
    ),
    "gymnasium, processes": (
        WorkerVectorEnv,
        partial(make_vector_env, "CartPole-v1", vectorization="async"),
        {"num_envs": 2, "num_steps": 60},
    ),
    "workers of a batch": (
        WorkerVectorEnv,
        partial(WorkerVectorEnv, Clocks, num_workers=1),
        {"num_steps": 20},
    ),
    "workers of copies": (
        WorkerVectorEnv,
        lambda num_envs: WorkerVectorEnv(
            partial(ParallelVectorEnv, Saves, check=False), num_envs, min(2, num_envs)
        ),
        {"num_envs": 2, "num_steps": 20},
    ),
}
"""Name -> which shipped class is tried, how a batch is made, and arguments of ``check_vector_env``."""


def shipped() -> Iterator[type]:
    """Public classes of ``lit_rl.envs`` that are batches of environments, or PettingZoo environments."""
    for info in pkgutil.walk_packages(lit_rl.envs.__path__, "lit_rl.envs."):
        module = importlib.import_module(info.name)
        for name, found in inspect.getmembers(module, inspect.isclass):
            if found.__module__ != info.name or name.startswith("_") or info.name.endswith(".process"):
                continue  # what runs inside a worker process is a part of ``WorkerVectorEnv``
            if info.name == "lit_rl.envs.native" or name in ("Runners", "ContactRunners"):
                continue  # base classes, which have no environment of their own
            methods = ("reset", "step", "get_state", "set_state", "close")
            if issubclass(found, ParallelEnv) or all(hasattr(found, method) for method in methods):
                yield found


def test_every_environment_is_tried():
    assert {kind for kind, _, _ in CASES.values()} == set(shipped())


@pytest.mark.parametrize("name", CASES)
def test_it_keeps_to_the_protocol(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    monkeypatch.chdir(tmp_path)
    _, make, arguments = CASES[name]
    check_vector_env(make, **({"num_steps": 110} | arguments))
