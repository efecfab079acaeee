"""``lit-rl verify-policy``: whether a bundle is whole, fits its environment, and holds in other worlds.

Axes: N environments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lit_rl.bundle.contract import BundleError, Contract, differences, plain_spec
from lit_rl.bundle.onnx_policy import OnnxPolicy
from lit_rl.bundle.worlds import MakeWorld, deployable, play
from lit_rl.types import Episodes

OF = ("last step", "all steps")
"""A limit is about the value at the last step of an episode, or about its mean over all steps."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on a policy in one world.

    Args:
        setting: Name of the world.
        passed: Whether all limits were kept.
        said: The measured values and their limits.
    """

    setting: str
    passed: bool
    said: str


def check_world(contract: Contract, make_world: MakeWorld) -> None:
    """Compare the environment here with the one that the contract describes.

    Raises:
        BundleError: Observation, action or machine differ; the message names the first entry that does.
    """
    env = make_world(1, {}, ())
    try:
        found = list(differences(plain_spec(env.spec.of_actor()), contract.spec, "spec"))
        machine = deployable(env)
        said = None if machine is None else json.loads(json.dumps(machine.contract()))
    finally:
        env.close()
    found += differences(said, contract.machine, "machine")
    if found:
        more = f" ({len(found) - 1} more differ)" if len(found) > 1 else ""
        raise BundleError(f"the contract does not fit the environment: {found[0]}{more}")


def try_in_worlds(policy: OnnxPolicy, make_world: MakeWorld, num_episodes: int) -> Iterator[Verdict]:
    """Let a policy play an episode in each of ``num_episodes`` environments of every world.

    Raises:
        BundleError: The contract's trials are damaged, or the environment does not know their arguments.
    """
    contract = policy.contract
    settings, limits = contract.trials.get("settings"), contract.trials.get("limits")
    if not isinstance(settings, dict) or not settings or not isinstance(limits, dict):
        raise BundleError("the contract's trials need settings and limits; export the bundle again")
    for name, limit in limits.items():
        if not (isinstance(limit, dict) and limit.get("of") in OF and _is_number(limit.get("at_most"))):
            raise BundleError(
                f"the contract's limit of {name!r:.40} needs of ({' or '.join(OF)}) and at_most"
            )
    for name, changed in settings.items():
        if not isinstance(changed, dict):
            raise BundleError(f"the contract's setting {name!r:.60} must hold arguments of the environment")
        episodes = play(policy, make_world(num_episodes, changed, tuple(limits)))
        yield judge(name, episodes, limits) if limits else _judge_return(name, episodes, contract.measured)


def judge(setting: str, episodes: Episodes, limits: Mapping[str, Any]) -> Verdict:
    """Compare what episodes reported with the limits; the mean over episodes counts."""
    said, passed = [], True
    for name, limit in limits.items():
        reported = episodes["last_values"] if limit["of"] == "last step" else episodes["values"]
        values = reported.get(name)
        mean = math.nan if values is None else float(np.nanmean(values.numpy()))
        is_kept = mean <= limit["at_most"]  # never with NaN
        passed &= is_kept
        said.append(f"{name} {mean:.3f} ({'at most' if is_kept else 'more than'} {limit['at_most']:g})")
    return Verdict(setting, passed, ", ".join(said))


def _judge_return(setting: str, episodes: Episodes, measured: Mapping[str, float]) -> Verdict:
    """Compare the return with the exported one; it may be lower by two standard errors of the difference."""
    returns = episodes["episode_return"].numpy()
    if not all(_is_number(measured.get(name)) for name in ("return_mean", "return_std", "episodes")):
        raise BundleError("the contract's measured needs return_mean, return_std and episodes")
    mean, then = float(returns.mean()), measured["return_mean"]
    std = float(returns.std(ddof=1)) if len(returns) > 1 else measured["return_std"]
    error = math.sqrt(std**2 / len(returns) + measured["return_std"] ** 2 / max(1, measured["episodes"]))
    lowest = then - 2 * error - 1e-6 * abs(then)
    passed = mean >= lowest
    limit = f"{'at least' if passed else 'less than'} {lowest:.1f}"
    return Verdict(
        setting, passed, f"return {mean:.1f} ({limit}; {then:.1f} "
        "when it was exported)",
    )  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
