"""Training on a GPU beside the CPU of the same machine: SAC's updates, PPO on quadrupeds, HMASD on UAVs.

``python tests/benchmarks/bench_gpu.py run`` times each case on both devices, in rounds that alternate, and
prints the medians; ``--out FILE`` writes them as JSON. ``--only NAME ...`` runs some cases. ``check`` trains
for a few batches on the GPU, and compares what its checkpoint does greedily on the GPU and on the CPU.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from machine import describe
from measure import fit, quiet

from lit_rl import HMASD, PPO, SAC, ReplayDataModule, RolloutDataModule
from lit_rl.callbacks import EnvStepBudget

CONFIGS = Path(__file__).parents[2] / "configs"
Case = Callable[[bool], tuple[LightningModule, LightningDataModule, int]]
"""Makes learner, data and number of env steps; the argument says whether the update is compiled."""


def _config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    content = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return content["model"]["init_args"], content["data"]["init_args"]


def sac(batch_size: int, updates: int) -> Case:
    """SAC on HalfCheetah: what is counted are updates of the critics."""

    def make(compiled: bool) -> tuple[LightningModule, LightningDataModule, int]:
        data = ReplayDataModule(
            "HalfCheetah-v5", 1, batch_size=batch_size, warmup_steps=batch_size, capacity=200_000,
            batches_per_epoch=1_000, check=False,
        )  # fmt: skip
        return SAC(compile=compiled), data, batch_size + 2 * data.minibatches + updates

    return make


def joystick(compiled: bool) -> tuple[LightningModule, LightningDataModule, int]:
    """PPO of ``go2_ppo_joystick``: 1,024 robots, stepped by the CPU in any case."""
    model, data = _config("go2_ppo_joystick")
    data |= {"check": False}
    return PPO(**model | {"compile": compiled}), RolloutDataModule(**data), 1_024 * data["rollout_steps"] * 10


def hmasd(compiled: bool) -> tuple[LightningModule, LightningDataModule, int]:
    """HMASD on the UAV network, as ``hmasd_uav`` configures it."""
    model, data = _config("hmasd_uav")
    model |= {"compile": compiled}
    data |= {"check": False}
    steps = data.get("batch_env_steps") or data["num_envs"] * data["rollout_steps"]
    return HMASD(**model), RolloutDataModule(**data), steps * 8


CASES: dict[str, Case] = {
    "sac_256": sac(256, 3_000),
    "sac_8192": sac(8_192, 600),
    "go2_ppo_joystick": joystick,
    "hmasd_uav": hmasd,
}


def measure(name: str, accelerator: str, compiled: bool, seed: int) -> dict[str, float]:
    """Time one case once."""
    learner, data, env_steps = CASES[name](compiled)
    timing = fit(learner, data, env_steps, seed, accelerator=accelerator)
    return {
        "env_steps_per_s": timing.env_steps / timing.seconds,
        "updates_per_s": timing.updates / timing.update_seconds if timing.update_seconds else 0.0,
    }


def run(names: list[str], rounds: int, out: str | None, compiled: list[bool]) -> None:
    """Time the cases on both devices, and print a line for each."""
    result: dict[str, Any] = {"machine": describe(), "gpu": torch.cuda.get_device_name(), "cases": {}}
    print(f"{result['gpu']}; {result['machine']['processor']}, {result['machine']['usable_cores']} cores")
    for name in names:
        for is_compiled in compiled:
            sides: dict[str, list[dict[str, float]]] = {"gpu": [], "cpu": []}
            for seed in range(rounds):
                for side, timings in sides.items():
                    timings.append(measure(name, side, is_compiled, seed))
            entry = {
                side: {key: round(median(timing[key] for timing in timings), 1) for key in timings[0]}
                for side, timings in sides.items()
            }
            label = f"{name}{' compiled' if is_compiled else ''}"
            result["cases"][label] = entry
            ratio = entry["gpu"]["updates_per_s"] / max(entry["cpu"]["updates_per_s"], 1e-9)
            print(f"{label}: {json.dumps(entry)}, updates on the GPU / on the CPU {ratio:.2f}", flush=True)
            if out is not None:
                Path(out).write_text(json.dumps(result, indent=1) + "\n")


def check() -> None:
    """Compare the greedy actions of a checkpoint of a GPU on both devices."""
    quiet()
    learner, data, _ = CASES["sac_256"](False)
    budget = EnvStepBudget(1_000)
    quietly: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        accelerator="gpu", devices=1, max_epochs=-1, num_sanity_val_steps=0, limit_val_batches=0,
        callbacks=[budget], enable_checkpointing=False, **quietly,
    )  # fmt: skip
    trainer.fit(learner, datamodule=data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gpu.ckpt"
        trainer.save_checkpoint(path)
        policies = {device: SAC.load_from_checkpoint(path, map_location=device) for device in ("cuda", "cpu")}
    obs, actions = torch.randn(64, 17), {}
    for device, policy in policies.items():
        policy.to(device).eval()
        with torch.no_grad():
            decision = policy.act(
                obs.to(device), {}, torch.ones(64, dtype=torch.bool, device=device), greedy=True
            )
        actions[device] = decision.action.cpu()
    print(f"largest difference of greedy actions: {(actions['cuda'] - actions['cpu']).abs().max():.2e}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["run", "check"])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", choices=["no", "yes", "both"], default="no")
    parser.add_argument("--out", default=None)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(
            "bench_gpu.py needs a CUDA device, and torch finds none; bench_sac.py and bench_go2.py need none"
        )
    start = time.perf_counter()
    if given.what == "check":
        check()
    else:
        compiled = {"no": [False], "yes": [True], "both": [False, True]}[given.compile]
        run(given.only, given.rounds, given.out, compiled)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
