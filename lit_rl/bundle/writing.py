"""``lit-rl export --bundle``: the greedy policy of a checkpoint as a folder that travels."""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

import lit_rl
from lit_rl import files
from lit_rl.algos.export import GreedyPolicy, example_observation, load_policy, policy_program
from lit_rl.algos.module import RLModule
from lit_rl.algos.names import Named
from lit_rl.bundle.contract import (
    CONTRACT,
    ONNX,
    PAIRS,
    PROGRAM,
    BundleError,
    Contract,
    Memory,
    Port,
    hash_of,
    hash_of_file,
    plain_spec,
)
from lit_rl.bundle.onnx_policy import RESET, OnnxPolicy
from lit_rl.bundle.pairs import EPISODES, STEPS, read_pairs, replay
from lit_rl.bundle.worlds import SEED, MakeWorld, deployable, play
from lit_rl.env_units import observation_to_env
from lit_rl.nested import map_nested, named_leaves
from lit_rl.types import EnvSpec, VectorEnv, without_critic

NUM_EPISODES = 32
"""Episodes that are played in the environment of training, and in each trial."""


def export_bundle(
    checkpoint: Path,
    directory: Path,
    make_world: MakeWorld,
    environment: Mapping[str, Any],
    classes: Sequence[Named] = (),
    *,
    overwrite: bool = False,
) -> Contract:
    """Write network, contract and pairs of the greedy policy of ``checkpoint``.

    The folder appears when all of it is written and the network has repeated its pairs in onnxruntime.

    Args:
        checkpoint: A checkpoint of a run.
        directory: Folder to write.
        make_world: Makes the environments of training.
        environment: ``env`` and ``env_kwargs`` of training, as the contract shall name them.
        classes: Classes of a user that the checkpoint may name.
        overwrite: Whether a bundle that is there is replaced.

    Raises:
        BundleError: There is a folder already, or onnx is missing.
        ValueError: The environment does not fit the checkpoint, which may be none.
        OSError: It cannot be written; nothing is left.
    """
    if directory.exists() and not (overwrite and (directory / CONTRACT).is_file()):
        raise BundleError(f"{directory} exists; give another folder, or --overwrite where it is a bundle")
    _require_onnx()
    learner = load_policy(checkpoint, classes)
    beside = files.unfinished(directory)
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        contract = _write(learner, beside, make_world, environment)
        if directory.exists():
            shutil.rmtree(directory)
        beside.replace(directory)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return contract


def _write(
    learner: RLModule, folder: Path, make_world: MakeWorld, environment: Mapping[str, Any]
) -> Contract:
    env = make_world(1, {}, ())
    try:
        spec = _fitting_spec(learner, env)
        machine = deployable(env)
        said = None if machine is None else machine.contract()
        trials = {"settings": {"as in training": {}}, "limits": {}} if machine is None else machine.trials()
        pairs = _record(learner, spec, env)
    finally:
        env.close()
    np.savez(folder / PAIRS, **cast("Any", pairs))
    ports, memory = _ports(learner, spec)
    action, plain = pairs["action"], plain_spec(spec)
    contract = Contract(
        environment=dict(environment), spec=plain, spec_sha256=hash_of(plain), inputs=ports,
        action=Port("action", list(action.shape[1:]), str(action.dtype)), memory=memory, machine=said,
        trials=trials, measured={}, trained=_trained(learner),
    )  # fmt: skip
    with _quiet():
        program = policy_program(learner)
        torch.export.save(program, folder / PROGRAM)
    _write_onnx(program, folder / ONNX, contract)
    policy = OnnxPolicy(folder, contract)
    replay(policy, read_pairs(folder, contract))
    returns = play(policy, make_world(NUM_EPISODES, {}, ()))["episode_return"].numpy()
    contract.measured.update(
        return_mean=float(returns.mean()), return_std=float(returns.std(ddof=1)), episodes=len(returns)
    )
    contract.files.update({name: hash_of_file(folder / name) for name in (ONNX, PROGRAM, PAIRS)})
    files.write_json(folder / CONTRACT, contract.to_dict())
    return contract


def _fitting_spec(learner: RLModule, env: VectorEnv) -> EnvSpec:
    """Return what the actor sees and chooses.

    Raises:
        ValueError: The environment has another observation or action than the one of training.
    """
    cast("EnvSpec", learner.spec).check_same(env.spec)
    return env.spec.of_actor()


def _record(learner: RLModule, spec: EnvSpec, env: VectorEnv) -> dict[str, np.ndarray]:
    """Play the first steps of some episodes, and keep what was seen and done, arrays ``(pairs, ...)``."""
    policy, rows = GreedyPolicy(learner, spec), []
    carry = learner.initial_carry(1)
    for episode in range(EPISODES):
        obs, reset = env.reset(SEED + episode), np.ones(1, bool)
        for _ in range(STEPS):
            tensors = map_nested(torch.as_tensor, obs)
            seen = observation_to_env(spec.observation, without_critic(tensors))
            with torch.no_grad():
                decided = policy(seen, carry, torch.from_numpy(reset)) if carry else policy(seen)
                chosen = learner.act(without_critic(tensors), carry, torch.from_numpy(reset), greedy=True)
            action, carry = decided if carry else (decided, carry)
            arrays = {name: leaf.numpy() for name, leaf in named_leaves(seen, "obs")}
            rows.append({**arrays, RESET: reset.copy(), "action": action.numpy()})
            step = env.step(chosen.action.numpy())
            over = step.terminated | step.truncated
            obs, reset = step.obs, over if step.valid is None else ~step.valid
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _ports(learner: RLModule, spec: EnvSpec) -> tuple[list[Port], list[Memory]]:
    inputs = [
        Port(name, list(leaf.shape[1:]), _dtype(leaf))
        for name, leaf in named_leaves(example_observation(spec, 1), "obs")
    ]
    memory = [
        Memory(name, f"next_{name}", list(leaf.shape[1:]), _dtype(leaf), leaf.flatten().tolist())
        for name, leaf in named_leaves(learner.initial_carry(1), "memory")
        if isinstance(leaf, torch.Tensor)
    ]
    return inputs, memory


def _dtype(leaf: torch.Tensor) -> str:
    return str(leaf.dtype).removeprefix("torch.")


def _trained(learner: RLModule) -> dict[str, Any]:
    return {
        "learner": type(learner).__name__,
        "env_steps": learner.env_steps,
        "lit_rl": lit_rl.__version__,
        "torch": version("torch"),
        "onnx": version("onnx"),
    }


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BundleError(
            f"a bundle needs {error.name}, which is not installed: pip install 'lit-rl[bundle]'"
        ) from error


def _write_onnx(program: torch.export.ExportedProgram, path: Path, contract: Contract) -> None:
    inputs = [port.name for port in contract.inputs] + [memory.input for memory in contract.memory]
    outputs = [contract.action.name, *(memory.output for memory in contract.memory)]
    with _quiet():
        written = torch.onnx.export(
            program, input_names=[*inputs, *([RESET] if contract.memory else [])], output_names=outputs,
            dynamo=True, verbose=False,
        )  # fmt: skip
        if written is None:
            raise BundleError("torch.onnx.export returned nothing")
        written.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's exporter from telling about packages that no policy needs, and about its own insides."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
