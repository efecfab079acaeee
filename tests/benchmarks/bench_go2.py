"""Speed of the quadruped GO2, and how well policies walk that were trained by the shipped configurations.

``python tests/benchmarks/bench_go2.py speed`` steps 1,024 robots with random actions; observation, reward and
new episodes included. Beside it, in the same run, it steps MuJoCo alone on the same model. Rounds of both
alternate. ``--single`` steps one robot by Gymnasium's interface instead. The last line is JSON. Targets, of
control steps per second: 45,000 with two threads at 10 ms x 2, 22,000 at 4 ms x 5, 6,000 for one robot.

``python tests/benchmarks/bench_go2.py train go2_ppo_joystick --seeds 1 2 3`` trains a shipped configuration
with the command that a user types, once per seed, and judges the policy at the end on physics steps of 4 ms:
512 robots, greedy, for 20 s; ``joystick`` with changing commands. It appends one line per seed to
``results/go2.jsonl``, with a learning curve; a training that is there is not repeated. Further arguments are
those of ``lit-rl fit``.
``... bench_go2.py table`` prints the table of all of them and writes ``results/go2.md`` and
``results/go2.png``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from lit_rl.envs.go2 import Go2, Go2Batch
from lit_rl.envs.go2.model import STANCE_RAD, make_model
from lit_rl.envs.mujoco_batch import Simulations

RESULTS = Path(__file__).parent / "results"
LINES, TABLE, FIGURE = (RESULTS / f"go2.{end}" for end in ("jsonl", "md", "png"))
ROBOTS, SECONDS, STEP_S = 512, 20.0, 0.02
CURVE = ("eval/return_mean", "env/velocity_error", "env/turn_error", "env/x_velocity", "episode/return_mean")
"""What is kept of ``metrics.csv``, where it is there."""


# Speed


def batch_rate(robots: Go2Batch, actions: np.ndarray, seconds: float) -> float:
    """Control steps per second of all robots."""
    num_steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        robots.step(actions[num_steps % len(actions)])
        num_steps += 1
    return num_steps * robots.num_envs / (time.perf_counter() - start)


def physics_rate(simulations: Simulations, actions: np.ndarray, substeps: int, seconds: float) -> float:
    """Control steps per second of MuJoCo alone; robots that fell are put back on their feet."""
    num_steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        simulations.ctrl[:] = STANCE_RAD + 0.4 * actions[num_steps % len(actions)]
        simulations.advance(substeps)
        put_up(simulations, np.flatnonzero(simulations.qpos[:, 2] < 0.15))
        num_steps += 1
    return num_steps * simulations.num / (time.perf_counter() - start)


def put_up(simulations: Simulations, rows: np.ndarray) -> None:
    """Let robots stand."""
    if len(rows):
        simulations.clear(rows)
        simulations.qpos[rows, 2] = 0.3
        simulations.qpos[rows, 7:] = STANCE_RAD


def single_rate(env: Go2, actions: np.ndarray, seconds: float) -> float:
    """Control steps per second of one robot by Gymnasium's interface."""
    num_steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        *_, terminated, truncated, _ = env.step(actions[num_steps % len(actions), 0])
        num_steps += 1
        if terminated or truncated:
            env.reset()
    return num_steps / (time.perf_counter() - start)


def print_speed(given: argparse.Namespace) -> None:
    """Print a line per round, then the medians."""
    num = 1 if given.single else given.robots
    settings = {"timestep_s": given.timestep, "threads": given.threads}
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (64, num, 12)).astype(np.float32)
    simulations = Simulations(make_model(given.timestep, 35.0, 0.5), num, given.threads, "physics alone")
    put_up(simulations, np.arange(num))
    env: Any = Go2(**settings) if given.single else Go2Batch(num, task="joystick", **settings)
    _ = env.reset(seed=0)
    substeps, seconds = round(STEP_S / given.timestep), given.seconds / given.rounds / 2
    rate = single_rate if given.single else batch_rate
    rate(env, actions, 0.2)  # compiles, or loads what was compiled
    ours, alone = [], []
    print(f"{'round':>5} {'control steps/s':>16} {'physics alone':>14} {'share':>6}")
    for number in range(given.rounds):
        ours.append(rate(env, actions, seconds))
        alone.append(physics_rate(simulations, actions, substeps, seconds))
        print(f"{number + 1:5d} {ours[-1]:16,.0f} {alone[-1]:14,.0f} {ours[-1] / alone[-1]:6.2f}")
    result = {
        "control_steps_per_s": round(float(np.median(ours))),
        "physics_alone_per_s": round(float(np.median(alone))),
        "share": round(float(np.median(np.divide(ours, alone))), 3),
        "robots": num,
        "timestep_s": given.timestep,
        "threads": given.threads,
    }
    print(json.dumps(result))


# Learning


def train(config: str, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Train as a user does, and judge what came out."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lit_rl", "fit", "--config", config, "--seed_everything", str(seed)]
        start = time.perf_counter()
        done = subprocess.run(
            [*command, *overrides], check=False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(f"{' '.join(command)} failed ({done.returncode}):\n{done.stdout[-4000:]}")
        (run,) = (path for path in Path(folder, "runs").glob("*/*") if not path.is_symlink())
        curve = read_curve(run / "metrics.csv")
        judged = judge(run, seed)
    return {
        "config": config, "overrides": overrides, "seed": seed, "wall_s": round(seconds, 1),
        "load": round(os.getloadavg()[0], 2), **judged, "curve": curve,
    }  # fmt: skip


def read_curve(path: Path, points: int = 60) -> list[dict[str, float]]:
    """Read what ``CURVE`` names over env steps and seconds."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    kept = []
    for row in rows:
        values = {name: float(row[name]) for name in CURVE if row.get(name)}
        if values:
            kept.append({"env_steps": float(row["step"]), **values})
    return kept[:: max(1, len(kept) // points)]


def judge(run: Path, seed: int) -> dict[str, float]:
    """Let 512 robots walk for 20 s, greedily, on physics steps of 4 ms."""
    import lit_rl

    config = yaml.safe_load((run / "config.yaml").read_text())
    kind = getattr(lit_rl, config["model"]["class_path"].rpartition(".")[2])
    policy = kind.load_from_checkpoint(run / "checkpoints" / "last.ckpt", map_location="cpu").eval()
    settings = config["data"]["init_args"]["env_kwargs"]
    record = ["x_velocity", "velocity_error", "turn_error", "has_fallen"]
    changed = {
        "timestep_s": 0.004,
        "staggered": False,
        "threads": 2,
        "push_mps": 0.0,
        "max_traj_length": round(SECONDS / STEP_S),
    }
    robots = Go2Batch(ROBOTS, record=record, **{**settings, **changed})
    obs, fell = robots.reset(10_000 + seed), np.zeros(ROBOTS, bool)
    sums, counts = np.zeros(3), 0
    carry, reset = policy.initial_carry(ROBOTS), torch.ones(ROBOTS, dtype=torch.bool)
    for _ in range(robots.task.max_traj_length):
        with torch.no_grad():
            decision = policy.act(_tensors(obs), carry, reset, greedy=True)
        step = robots.step(decision.action.numpy())
        obs, carry, reset = step.obs, decision.carry, torch.from_numpy(step.terminated | step.truncated)
        counts += ROBOTS
        sums += [step.metrics[name].sum() for name in record[:3]]
        fell |= step.metrics["has_fallen"] > 0
    means = (sums / counts).round(4).tolist()
    return {**dict(zip(record[:3], means, strict=True)), "fallen_share": round(float(fell.mean()), 4)}


def _tensors(obs: Any) -> Any:
    if isinstance(obs, dict):
        return {key: torch.from_numpy(leaf) for key, leaf in obs.items()}
    return torch.from_numpy(obs)


def read() -> list[dict[str, Any]]:
    """Read all trainings so far."""
    return [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []


def train_all(config: str, seeds: list[int], overrides: list[str]) -> None:
    """Train what is not in the file yet."""
    done = {(line["config"], tuple(line["overrides"]), line["seed"]) for line in read()}
    for seed in seeds:
        if (config, tuple(overrides), seed) in done:
            continue
        line = train(config, seed, overrides)
        with LINES.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps({name: value for name, value in line.items() if name != "curve"}), flush=True)


def table() -> str:
    """Make the document: what each training reached."""
    head = [
        "# Quadrupeds that learn to walk\n",
        "Written by `python tests/benchmarks/bench_go2.py table` of trainings by `... train CONFIG`. Each "
        f"policy is judged greedily on physics steps of 4 ms: {ROBOTS} robots for {SECONDS:g} s. Errors are "
        "means over all steps; a robot that fell at least once counts as fallen. Load is the machine's when "
        "the training ended: 1 is one busy core.\n",
        "| configuration | overrides | seed | wall s | m/s ahead | error m/s | error rad/s | fallen | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines = sorted(read(), key=lambda line: (line["config"], line["overrides"], line["seed"]))
    return "\n".join([*head, *map(_row, lines)]) + "\n"


def _row(line: dict[str, Any]) -> str:
    return (
        f"| {line['config']} | {' '.join(line['overrides'])} | {line['seed']} | {line['wall_s']:.0f} | "
        f"{line['x_velocity']:.3f} | {line['velocity_error']:.3f} | {line['turn_error']:.3f} | "
        f"{100 * line['fallen_share']:.1f} % | {line['load']:.1f} |"
    )


def draw() -> None:
    """Draw the learning curves."""
    from matplotlib.figure import Figure

    configs = sorted({line["config"] for line in read()})
    figure = Figure((5 * len(configs), 3.4), layout="constrained")
    for number, config in enumerate(configs):
        axes = figure.add_subplot(1, len(configs), number + 1)
        for line in (line for line in read() if line["config"] == config):
            points = [point for point in line["curve"] if "episode/return_mean" in point]
            axes.plot(
                [point["env_steps"] for point in points],
                [point["episode/return_mean"] for point in points],
                label=f"seed {line['seed']} {' '.join(line['overrides'])}",
            )
        axes.set(title=config, xlabel="env steps", ylabel="return of episodes in training")
        axes.legend(fontsize=7)
    figure.savefig(FIGURE, dpi=110)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    speed = commands.add_parser("speed")
    speed.add_argument("--robots", type=int, default=1024)
    speed.add_argument("--timestep", type=float, default=0.01)
    speed.add_argument("--threads", type=int, default=2)
    speed.add_argument("--single", action="store_true")
    speed.add_argument("--seconds", type=float, default=20.0)
    speed.add_argument("--rounds", type=int, default=5)
    trains = commands.add_parser("train")
    trains.add_argument("config")
    trains.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    commands.add_parser("table")
    given, overrides = parser.parse_known_args()
    if overrides and given.what != "train":
        parser.error(f"unrecognized arguments: {' '.join(overrides)}")
    if given.what == "speed":
        print_speed(given)
    elif given.what == "train":
        train_all(given.config, given.seeds, overrides)
    else:
        text = table()
        TABLE.write_text(text)
        draw()
        print(text)


if __name__ == "__main__":
    main()
