"""Speed of ``uav_bs_v0`` and the episode means of its baselines.

``python tests/benchmarks/bench_uav.py speed`` steps networks with random actions and prints env-steps
per second (one env step = one network, all its UAVs, with observations, state and episode ends). All of it
runs on one thread: numpy needs no linear algebra library here. ``--device cuda`` and ``--backend torch`` let
torch compute (on the CPU with as many threads as torch takes), ``--tensors`` without transfers to numpy.
The target is 40,000 at 32 and at 256 networks; the single-network environment of the earlier system made 22
to 30 on one core.

``python tests/benchmarks/bench_uav.py baselines`` plays one episode of 200 steps in 128 networks with each
baseline and prints means over the episode, and at its last step.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from lit_rl.envs.uav.network import UAVNetwork

RECORD = ["system_throughput_mbps", "connected_users", "coverage_ratio"]
SHOWN = [*RECORD, "connectivity_ratio", "jain_index", "mean_hops", "energy_j"]


def steps_per_second(
    num_envs: int, seconds: float, settings: dict[str, Any], rounds: int = 5, tensors: bool = False
) -> list[float]:
    """Env-steps per second of each round; every round plays whole episodes, restarts included."""
    env = UAVNetwork(num_envs, record=RECORD, **settings)
    length, uavs = env.scenario.num_steps, env.scenario.num_uavs
    env.reset(0)
    actions: Any = np.random.default_rng(0).uniform(-1, 1, (length, num_envs, uavs, 3)).astype(np.float32)
    step = env.step
    if tensors:
        import torch

        actions, step = torch.from_numpy(actions).to(settings.get("device", "cpu")), env.step_tensors
    speeds = []
    for _ in range(rounds):
        num_steps, start = 0, time.perf_counter()
        while num_steps == 0 or time.perf_counter() - start < seconds / rounds:
            for action in actions:
                last = step(action)
            float(last.reward[0])  # waits for the device
            num_steps += length
        speeds.append(num_steps * num_envs / (time.perf_counter() - start))
    return speeds


def print_speed(networks: list[int], seconds: float, settings: dict[str, Any], tensors: bool) -> None:
    """One line per number of networks, then their medians and the least of them as JSON."""
    medians = {}
    print(f"{'networks':>8} {'env-steps/s':>12} {'slowest round':>14} {'fastest round':>14}")
    for num_envs in networks:
        speeds = steps_per_second(num_envs, seconds, settings, tensors=tensors)
        print(f"{num_envs:8d} {np.median(speeds):12,.0f} {min(speeds):14,.0f} {max(speeds):14,.0f}")
        medians[num_envs] = float(np.median(speeds))
    print(json.dumps({"medians": medians, "env_steps_per_s": min(medians.values())}))


def print_baselines(num_envs: int, seed: int) -> None:
    """One line per baseline: means over the episode and, behind the bar, at its last step."""
    from lit_rl.collect.inline import InlineCollector
    from lit_rl.envs.uav.baselines import KMeans, RandomFlight, Stay

    policies: dict[str, Any] = {
        "random": RandomFlight(),
        "stay": Stay(),
        "k-means, 100 m": KMeans(),
        "k-means, 1 relay, 100 m": KMeans(num_relays=1),
        "k-means, 2 relays, 100 m": KMeans(num_relays=2),
        "k-means, 1 relay, 60 m": KMeans(num_relays=1, height_m=60.0),
    }
    print(f"{'':25} " + " ".join(f"{name:>22}" for name in SHOWN))
    for name, policy in policies.items():
        env = UAVNetwork(num_envs, record=SHOWN)
        metrics = InlineCollector(env, seed).collect(policy, env.scenario.num_steps, 0)["metrics"]
        cells = [f"{metrics[key].nanmean():.3f} | {metrics[key][-1].nanmean():.3f}" for key in SHOWN]
        print(f"{name:25} " + " ".join(f"{cell:>22}" for cell in cells))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["speed", "baselines"])
    parser.add_argument("--networks", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--seconds", type=float, default=10.0, help="per number of networks")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number> (speed only)")
    parser.add_argument("--backend", default="auto", help="auto, numpy or torch (speed only)")
    parser.add_argument("--tensors", action="store_true", help="step_tensors, on the device (speed only)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.what == "speed":
        print_speed(
            args.networks, args.seconds, {"device": args.device, "backend": args.backend}, args.tensors
        )
    else:
        print_baselines(128, args.seed)


if __name__ == "__main__":
    main()
