"""What FlatAdam saves: of one optimizer step, of one gradient step of PPO, and of a whole run.

``python tests/benchmarks/bench_adam.py`` compares four ways to step the same numbers, the first three equal
to the bit: ``flat`` (``FlatAdam``: it calls torch's fused kernel by a private name), ``function`` (the public
function ``torch.optim.adam.adam`` over the same flat parameter), ``fused`` (the public class
``torch.optim.Adam(fused=True)`` over it) and ``separate`` (that class over the module's own parameters).
First come microseconds of one optimizer step, called in a loop, for networks of several sizes. Then come
gradient steps and env steps per second of PPO on CartPole, trained as users train it, by default and
compiled: there more is saved than in the loop, because what runs between two steps evicts the optimizer's
Python code from the processor's caches.

The ways alternate, in a training from batch to batch, and savings are of neighbours in time, so that a
busy machine cannot favour one. Printed are medians with the middle half of the numbers, and medians of the
savings with a 95 % interval (bootstrap). It takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import machine
import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from measure import fit
from peers import PPO_CARTPOLE
from scipy.stats import bootstrap
from torch import Tensor, nn
from torch.optim.adam import adam

from lit_rl import PPO, RolloutDataModule
from lit_rl.flat import FlatAdam
from lit_rl.metrics import UPDATE_SECONDS
from lit_rl.types import Rollout

WAYS = ("flat", "function", "fused", "separate")
LEARNING_RATE, EPSILON = 1e-3, 1e-5
CALLS = 400
"""Optimizer steps between two readings of the clock."""
WARM_UP = 4
"""Batches of a training that do not count; compilation falls into them."""


class FunctionAdam(torch.optim.Adam):
    """Adam whose steps call the public function of PyTorch with one tensor of each kind."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step; the first one lets PyTorch create the state."""
        group = self.param_groups[0]
        (parameter,) = group["params"]
        state = self.state[parameter]
        if not state:
            super().step()
            return
        adam(
            [parameter], [parameter.grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            fused=True, amsgrad=False, beta1=group["betas"][0], beta2=group["betas"][1], lr=group["lr"],
            weight_decay=group["weight_decay"], eps=group["eps"], maximize=False,
        )  # fmt: skip

    step.hooked = True  # PyTorch would wrap it in a profiler range otherwise


def flat_adam(module: nn.Module) -> FlatAdam:
    """The optimizer that is judged here."""
    return FlatAdam(module, LEARNING_RATE, EPSILON)


def public(way: str, flat: nn.Parameter, separate: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Adam of PyTorch over the flat parameter, or over the parameters that are views of it."""
    kind = FunctionAdam if way == "function" else torch.optim.Adam
    return kind(separate if way == "separate" else [flat], LEARNING_RATE, eps=EPSILON, fused=True)


def networks() -> dict[str, nn.Module]:
    """Actors and critics of the sizes that the speed table measures."""

    def perceptron(*sizes: int) -> nn.Module:
        return nn.Sequential(*(nn.Linear(*pair) for pair in pairwise(sizes)))

    def pair(obs: int, outputs: int, *hidden: int) -> nn.Module:
        return nn.ModuleList([perceptron(obs, *hidden, outputs), perceptron(obs, *hidden, 1)])

    return {
        "PPO CartPole, 2 x (64, 64)": pair(4, 2, 64, 64),
        "PPO HalfCheetah, 2 x (64, 64)": pair(17, 6, 64, 64),
        "SAC HalfCheetah, twin critics (256, 256)": pair(23, 1, 256, 256),
    }


def step_microseconds(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Microseconds of one optimizer step, for each network and way, one number a round."""
    result = {}
    for name, module in networks().items():
        own = flat_adam(module)
        (flat,) = own.param_groups[0]["params"]
        parameters = list(module.parameters())
        for parameter in (flat, *parameters):
            parameter.grad = torch.randn_like(parameter)
        own.step()  # PyTorch creates the state
        grad, state = flat.grad, own.state[flat]
        steps: dict[str, Callable[[], object]] = {way: public(way, flat, parameters).step for way in WAYS[1:]}
        steps["flat"] = lambda: own._advance(own.flat.values, grad, state)  # noqa: B023  # in this round only
        times: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(-2, rounds):  # two rounds warm up
            for way in WAYS if number % 2 else reversed(WAYS):
                start = time.perf_counter()
                for _ in range(CALLS):
                    steps[way]()
                if number >= 0:
                    times[way].append(1e6 * (time.perf_counter() - start) / CALLS)
        result[f"{name}, {flat.numel():,} parameters"] = times
    return result


def _stepping(adam: torch.optim.Optimizer, flat: nn.Parameter) -> Callable[..., object]:
    """Step ``adam`` where ``FlatAdam`` would advance."""

    def step(values_P: Tensor, grad_P: Tensor, state: object) -> None:
        flat.grad = grad_P
        adam.step()
        flat.grad = None

    return step


class Rotation(Callback):
    """Gives every batch of a training one of the ways to step, and reads the clock after it.

    A round is one batch of each way in random order, so that whatever slows the machine down slows all. The
    ways step the same parameters; each keeps its own moments, which time cannot tell.
    """

    def __init__(self, seed: int) -> None:
        self.env_steps_per_s: dict[str, list[float]] = {way: [] for way in WAYS}
        self.gradient_step_us: dict[str, list[float]] = {way: [] for way in WAYS}
        self._rng = np.random.default_rng(seed)
        self._order: list[str] = []
        self._steps: dict[str, Callable[..., object]] = {}

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Exchange the method that the learner calls."""
        own = trainer.optimizers[0]
        if not self._steps:
            (flat,) = own.param_groups[0]["params"]
            trained = [parameter for parameter in pl_module.parameters() if parameter is not flat]
            self._steps = {way: _stepping(public(way, flat, trained), flat) for way in WAYS[1:]}
            self._steps["flat"] = own._advance
            for parameter in trained:  # a compiled gradient need not be handed to them
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self._updates, self._time = pl_module.updates, time.perf_counter()
        if not self._order:
            self._order = self._rng.permutation(WAYS).tolist()
        own._advance = self._steps[self._order[-1]]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Rollout, batch_idx: int
    ) -> None:
        """Note what this batch took, from the end of the one before: collection, update and all the rest."""
        now, way = time.perf_counter(), self._order.pop()
        if batch_idx >= WARM_UP:
            updates = pl_module.updates - self._updates
            self.env_steps_per_s[way].append(batch["terminated"].numel() / (now - self._time))
            self.gradient_step_us[way].append(1e6 * pl_module.progress_metrics[UPDATE_SECONDS] / updates)
        self._updates, self._time = pl_module.updates, now


def train(env_steps: int, seed: int, *, compiled: bool) -> Rotation:
    """PPO on CartPole with the settings of the rl-zoo, as in ``bench_ppo.py``."""
    settings = PPO_CARTPOLE
    module = PPO(
        learning_rate=LEARNING_RATE,
        anneal_env_steps=settings["steps"],
        batch_size=settings["batch_size"],
        update_epochs=settings["n_epochs"],
        gamma=settings["gamma"],
        gae_lambda=settings["gae_lambda"],
        clip=settings["clip_range"],
        compile=compiled,
        threads=1,
    )
    data = RolloutDataModule(
        settings["env"], settings["num_envs"], settings["n_steps"], rollouts_per_epoch=10**6
    )
    rotation = Rotation(seed)
    fit(module, data, env_steps, seed, callbacks=[rotation])
    return rotation


def print_ways(numbers: dict[str, list[float]], digits: int, unit: str, *, saved: bool) -> None:
    """Print for each way the median, the middle half, and what ``flat`` gains over it with an interval."""
    for way in WAYS:
        low, median, high = np.percentile(numbers[way], [25, 50, 75])
        text = f"    {way:9} {median:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f}) {unit}"
        if way != "flat":
            pairs = list(zip(numbers[way], numbers["flat"], strict=False))
            if saved:
                share, name = [100 * (1 - flat / other) for other, flat in pairs], "flat saves"
                difference = statistics.median(other - flat for other, flat in pairs)
                name += f" {difference:.1f} {unit},"
            else:
                share, name = [100 * (flat / other - 1) for other, flat in pairs], "flat is faster by"
            text += f"; {name} {interval_text(share)}"
        print(text)


def interval_text(percents: list[float]) -> str:
    """The median of percentages with its 95 % interval; without one where there are fewer than three."""
    median = f"{statistics.median(percents):.1f} %"
    if len(percents) < 3:
        return median
    found = bootstrap((np.array(percents),), np.median, method="percentile", rng=0).confidence_interval
    return f"{median} [{found.low:.1f}, {found.high:.1f}]"


def main() -> None:
    """Measure steps and runs, print both, and all of it as one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25, help="of the optimizer steps")
    parser.add_argument("--env-steps", type=int, default=100_000, help="of each of the two trainings")
    args = parser.parse_args()
    torch.set_num_threads(1)
    start, described = machine.load(), machine.describe()
    report: dict[str, Any] = {"machine": described, "step_us": step_microseconds(args.rounds), "runs": {}}
    print("one optimizer step in microseconds")
    for name, times in report["step_us"].items():
        print(f"  {name}")
        print_ways(times, 1, "us", saved=True)
    for mode in ("default", "compile"):
        rotation = train(args.env_steps, 0, compiled=mode == "compile")
        report["runs"][mode] = {
            "env_steps_per_s": rotation.env_steps_per_s,
            "gradient_step_us": rotation.gradient_step_us,
        }
        print(f"PPO CartPole, {mode}, {args.env_steps:,} env steps: one gradient step")
        print_ways(rotation.gradient_step_us, 0, "us", saved=True)
        print(f"PPO CartPole, {mode}: the run")
        print_ways(rotation.env_steps_per_s, 0, "env steps/s", saved=False)
    print(machine.as_text(described, start, machine.load()))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
