"""Speed of the planar arm, and how often its controller without learning reaches the goal.

``python tests/benchmarks/bench_arm.py speed`` steps 4,096 different arms of three to six joints with random
actions: observation, reward and new episodes included (two physics steps per env step). Beside it, in the
same run and on the same arms, it steps MuJoCo's ``mj_step`` in a plain loop, physics alone. Everything runs
on one thread; rounds of both alternate. Rates are also given per second of CPU time, which other programs on
the machine disturb less. Targets: 4,000,000 physics steps per second, 10 times the loop.

``python tests/benchmarks/bench_arm.py controller`` plays the Jacobian-transpose controller on goals within
reach, one episode for each of 4,096 random arms, and prints the success rate (tip within 2 cm at the end) of
all arms and of each joint count. Target: 0.85.

The last line of each is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from lit_rl.envs.arm.batch import PlanarArms
from lit_rl.envs.arm.controller import jacobian_transpose
from lit_rl.envs.arm.simulator import build_model

JOINTS = [3, 4, 5, 6]


Rates = tuple[float, float]
"""Steps per second, and per second of CPU time."""


def rates(num_steps: int, start: float, cpu_start: float) -> Rates:
    """Divide by the time since ``start``."""
    return num_steps / (time.perf_counter() - start), num_steps / (time.process_time() - cpu_start)


def arm_rate(arms: PlanarArms, actions: np.ndarray, seconds: float) -> Rates:
    """Physics steps of all arms, in whole episodes."""
    num_steps, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        for action in actions:
            arms.step(action)
        num_steps += len(actions)
    return rates(num_steps * arms.num_envs * arms.task.frame_skip, start, cpu_start)


def mujoco_rate(models: list[tuple[Any, Any]], seconds: float) -> Rates:
    """Calls of ``mj_step``, one arm after the other, 100 steps each."""
    import mujoco

    step: Any = mujoco.mj_step  # pyright: ignore[reportAttributeAccessIssue]  # a compiled module
    num_steps, start, cpu_start = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        for model, data in models:
            for _ in range(100):
                step(model, data)
        num_steps += 100 * len(models)
    return rates(num_steps, start, cpu_start)


def print_speed(num_envs: int, seconds: float, rounds: int, settings: dict[str, Any]) -> None:
    """Print a line per round, then the medians."""
    import mujoco

    mixed = {"joints": JOINTS, "num_bodies": num_envs}
    arms = PlanarArms(num_envs, **{**mixed, **settings})
    arms.reset(0)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (arms.task.num_steps, num_envs, 6)).astype(np.float32)
    models = []
    for row in range(32):
        model = build_model(arms.bodies, row)
        data = mujoco.MjData(model)  # pyright: ignore[reportAttributeAccessIssue]
        data.ctrl[:] = rng.uniform(-1, 1, model.nu)
        models.append((model, data))
    arms.step(actions[0])  # compiles, or loads what was compiled
    ours, theirs = [], []
    print(f"{'round':>5} {'physics steps/s':>16} {'mj_step loop':>13} {'ratio':>6}   {'by CPU time':>30}")
    for number in range(rounds):
        ours.append(arm_rate(arms, actions, seconds / rounds / 2))
        theirs.append(mujoco_rate(models, seconds / rounds / 2))
        cells = [f"{o:16,.0f} {t:13,.0f} {o / t:6.1f}" for o, t in zip(ours[-1], theirs[-1], strict=True)]
        print(f"{number + 1:5d} {'   '.join(cells)}")
    (wall, cpu), (loop, cpu_loop) = np.median(ours, 0), np.median(theirs, 0)
    ratio, cpu_ratio = np.median(np.divide(ours, theirs), 0)
    result = {
        "physics_steps_per_s": round(wall),
        "physics_steps_per_cpu_s": round(cpu),
        "mj_step_loop_per_s": round(loop),
        "mj_step_loop_per_cpu_s": round(cpu_loop),
        "ratio": round(ratio, 2),
        "cpu_ratio": round(cpu_ratio, 2),
        "arms": num_envs,
        **settings,
    }
    print(json.dumps(result))


def print_controller(num_envs: int, seed: int) -> None:
    """Print one line per joint count, then all arms together."""
    arms = PlanarArms(
        num_envs,
        joints=JOINTS,
        num_bodies=num_envs,
        body_seed=seed,
        record=["is_success", "distance_per_reach"],
    )
    arms.set_bodies(arms.bodies)
    arms.reset(seed)
    for _ in range(arms.task.num_steps):
        step = arms.step(jacobian_transpose(arms))
    success, distance = step.metrics["is_success"], step.metrics["distance_per_reach"]
    print(f"{'joints':>6} {'arms':>6} {'success':>8} {'final distance / reach':>23}")
    for count in JOINTS:
        rows = arms.bodies.num_joints == count
        print(f"{count:6d} {rows.sum():6d} {success[rows].mean():8.3f} {distance[rows].mean():23.3f}")
    result = {
        "success": round(float(success.mean()), 4),
        "distance_per_reach": round(float(distance.mean()), 4),
    }
    print(json.dumps({**result, "arms": num_envs, "seed": seed}))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["speed", "controller"])
    parser.add_argument("--arms", type=int, default=4096)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the whole measurement (speed only)")
    parser.add_argument("--rounds", type=int, default=5, help="speed only")
    parser.add_argument("--layout", default="trig", help="trig, seed or tokens (speed only)")
    parser.add_argument("--precision", default="float32", help="float32 or float64 (speed only)")
    parser.add_argument(
        "--no-contacts", action="store_true", help="arms that pass through themselves (speed)"
    )
    parser.add_argument("--seed", type=int, default=0, help="controller only")
    args = parser.parse_args()
    if args.what == "controller":
        print_controller(args.arms, args.seed)
        return
    settings = {"layout": args.layout, "precision": args.precision, "contacts": not args.no_contacts}
    print_speed(args.arms, args.seconds, args.rounds, settings)


if __name__ == "__main__":
    main()
