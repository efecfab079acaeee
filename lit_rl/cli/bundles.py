"""``lit-rl verify-policy``, and which environment belongs to a policy that leaves or comes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium

import lit_rl.envs  # noqa: F401  # registers the environments of lit_rl
from lit_rl.bundle.contract import BundleError, read_contract
from lit_rl.bundle.onnx_policy import OnnxPolicy
from lit_rl.bundle.pairs import read_pairs, replay
from lit_rl.bundle.verify import check_world, try_in_worlds
from lit_rl.bundle.worlds import MakeWorld, world_of
from lit_rl.cli.act import read_data
from lit_rl.cli.errors import CommandError
from lit_rl.cli.flags import FlagParser, count
from lit_rl.envs.class_path import factory


def verify_policy(argv: Sequence[str]) -> None:
    """Verify a bundle, and say how its policy did in each world.

    Args:
        argv: The command line after ``verify-policy``.

    Raises:
        CommandError: The bundle is damaged, does not fit, or failed in a world; exit status 1.
    """
    given = _parser().parse_args(argv)
    try:
        contract = read_contract(given.bundle)
        policy = OnnxPolicy(given.bundle, contract)
        pairs = read_pairs(given.bundle, contract)
        error = replay(policy, pairs)
        _say(f"pairs: {len(pairs['reset'])} repeated, largest error {error:.1g}")
        world, _ = world_from(given.config, contract.environment, f"bundle {given.bundle}")
        check_world(contract, world)
        _say(f"environment: {contract.spec['name']}, as the contract says")
        verdicts = []
        for verdict in try_in_worlds(policy, world, given.episodes):
            verdicts.append(verdict.passed)
            _say(f"{'pass' if verdict.passed else 'FAIL'}  {verdict.setting}: {verdict.said}")
    except BundleError as error:
        raise CommandError(str(error), 1) from error
    passed = f"{sum(verdicts)} of {len(verdicts)} settings passed"
    if not all(verdicts):
        raise CommandError(f"{passed}: do not carry this policy to a machine; train it on what failed", 1)
    _say(passed)


def world_from(
    configs: Sequence[str], trained: Mapping[str, Any], whose: str
) -> tuple[MakeWorld, dict[str, Any]]:
    """Find the environment of a policy.

    A configuration that the user gives is code: what it names is imported. What a checkpoint or a bundle says
    is data: of environments it may name those that are registered with Gymnasium.

    Args:
        configs: Names or paths of configurations.
        trained: ``env``, ``env_kwargs`` and ``wrappers`` as the checkpoint or bundle says.
        whose: Who says so, for messages.

    Returns:
        What makes the environments, and ``env`` and ``env_kwargs`` in plain types.

    Raises:
        CommandError: Nothing names an environment, or data names one that is not registered.
    """
    data = read_data(configs, [])[0] if configs else dict(trained)
    env, env_kwargs = data.get("env"), data.get("env_kwargs") or {}
    wrappers = data.get("wrappers") or []
    if env is None:
        if configs:
            raise CommandError(f"--config {configs[-1]} has no data.env, and a bundle needs an environment")
        raise CommandError(f"{whose} does not say which environment it is for; give --config of its run")
    is_registered = isinstance(env, str) and ":" not in env and env in gymnasium.registry
    if not configs and (not is_registered or wrappers or not isinstance(env_kwargs, dict)):
        named = "wrappers" if wrappers else f"the environment {str(env)[:80]}"
        raise CommandError(
            f"{whose} names {named}, and data may only name environments that are registered with Gymnasium; "
            "give --config of its run, which names what is imported"
        )
    made = world_of(factory(env, "env"), env_kwargs, [factory(wrapper, "wrappers") for wrapper in wrappers])
    return made, {"env": env, "env_kwargs": env_kwargs}


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> FlagParser:
    parser = FlagParser(
        "verify-policy",
        "Verify a policy bundle: its files are those that were exported, it repeats its recorded pairs in "
        "onnxruntime, its contract fits the environment, and the policy holds in other worlds.",
    )
    parser.add_argument("bundle", type=Path, help="folder that lit-rl export --bundle wrote")
    parser.add_argument(
        "--config", "-c", action="append", default=[],
        help="configuration of the environment; needed where that is not registered with Gymnasium",
    )  # fmt: skip
    parser.add_argument(
        "--episodes", type=count, default=32, help="episodes in each world; default: %(default)s"
    )
    return parser
