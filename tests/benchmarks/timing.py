"""What a throughput is, how it is measured for the peers, and how a script reports it.

It needs nothing of lit_rl, because scripts in the peers' own environments import it, too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Timing:
    """What was done in how much time.

    Args:
        seconds: Wall time.
        cpu_seconds: Time of all threads of the process; below ``threads * seconds`` it was disturbed.
        env_steps: Env steps in that time.
        updates: Gradient steps in that time.
        update_seconds: Wall time of ``training_step`` alone; None for the peers.
    """

    seconds: float
    cpu_seconds: float
    env_steps: int
    updates: int
    update_seconds: float | None = None


def time_sb3(model: Any, warmup_steps: int, steps: int, updates_per_step: float, *, restart: bool) -> Timing:
    """Time Stable-Baselines3's ``learn`` after a short one that is not timed.

    Args:
        model: The algorithm.
        warmup_steps: Env steps of the learn that is not timed.
        steps: Env steps to time (PPO rounds up to whole rollouts).
        updates_per_step: Gradient steps per env step.
        restart: Whether schedules start anew; False continues, which keeps the warm-up of SAC behind us.
    """
    model.learn(warmup_steps)
    before = 0 if restart else model.num_timesteps
    start, cpu_start = time.perf_counter(), time.process_time()
    model.learn(steps, reset_num_timesteps=restart)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    done = model.num_timesteps - before
    return Timing(seconds, cpu_seconds, done, round(done * updates_per_step))


def report(timing: Timing, **labels: Any) -> None:
    """Print one line of JSON, the last line of every benchmark script; ``run_all.py`` reads it."""
    result = {
        "env_steps_per_s": timing.env_steps / timing.seconds,
        "updates_per_s": timing.updates / timing.seconds,
        "seconds": timing.seconds,
        "env_steps_per_cpu_s": timing.env_steps / timing.cpu_seconds,
        "updates_per_cpu_s": timing.updates / timing.cpu_seconds,
        "cores_used": timing.cpu_seconds / timing.seconds,
        "threads": torch.get_num_threads(),
    }
    if timing.update_seconds is not None:
        result["ms_in_training_step"] = 1e3 * timing.update_seconds / timing.updates
    print(json.dumps(result | labels))
