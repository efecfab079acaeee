"""``contract.json`` says what a bundled policy sees and gives, on which machine, and how it proved itself.

The file is data, whoever wrote it: what it names is compared, never imported.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from lit_rl import files
from lit_rl.types import EnvSpec

FORMAT, VERSION = "lit_rl policy bundle", 1
CONTRACT, ONNX, PROGRAM, PAIRS = "contract.json", "policy.onnx", "policy.pt2", "pairs.npz"
"""Names of the files of a bundle."""


class BundleError(ValueError):
    """A bundle is damaged, or does not fit: one line says which file and what was expected."""


@dataclass(frozen=True)
class Port:
    """One array that goes into the policy, or comes out.

    Args:
        name: Its name in ``policy.onnx``, and in ``pairs.npz``.
        shape: Shape for one environment; in front stands the axis of environments.
        dtype: Name of its dtype.
    """

    name: str
    shape: list[int]
    dtype: str


@dataclass(frozen=True)
class Memory:
    """One array that a policy keeps from step to step; ``reset`` tells it where episodes begin.

    Args:
        input: Name under which it goes in.
        output: Name under which the next one comes out.
        shape: Shape for one environment.
        dtype: Name of its dtype.
        initial: Numbers before the first step, flat.
    """

    input: str
    output: str
    shape: list[int]
    dtype: str
    initial: list[float]


@dataclass(frozen=True)
class Contract:
    """Everything that must be known to run a bundled policy.

    Args:
        environment: ``env`` and ``env_kwargs`` with which the policy was trained.
        spec: Observations and actions of that environment, from :func:`plain_spec`.
        spec_sha256: Hash of ``spec``.
        inputs: The observation in the numbers of the environment; normalisation is inside of the policy.
        action: The action in the environment's own numbers; boxes are clipped.
        memory: Arrays that are kept from step to step; there are none for policies without memory.
        machine: Joints, units and timing, as the environment describes them; None where it does not.
        trials: ``settings`` (arguments of the environment that differ, by name) and ``limits``.
        measured: Greedy episodes in the environment of training: mean and deviation of the return, number.
        trained: Learner, env steps, and versions.
        files: SHA-256 of the other files, by name.
    """

    environment: dict[str, Any]
    spec: dict[str, Any]
    spec_sha256: str
    inputs: list[Port]
    action: Port
    memory: list[Memory]
    machine: dict[str, Any] | None
    trials: dict[str, Any]
    measured: dict[str, float]
    trained: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @property
    def env_spec(self) -> EnvSpec:
        """The spec as an object."""
        return _spec_of(self.spec)


def plain_spec(spec: EnvSpec) -> dict[str, Any]:
    """Return a spec as JSON keeps it, with infinite bounds as texts."""
    plain = spec.to_dict()
    for end in ("low", "high"):
        bounds = plain["action"][end]
        plain["action"][end] = [bound if math.isfinite(bound) else str(bound) for bound in bounds]
    return plain


def _spec_of(plain: Mapping[str, Any]) -> EnvSpec:
    action = plain["action"]
    ends = {end: [float(bound) for bound in action[end]] for end in ("low", "high")}
    return EnvSpec.from_dict({**plain, "action": {**action, **ends}})


def hash_of(plain: Any) -> str:
    """Hash plain types: equal ones have equal hashes, on any machine."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def hash_of_file(path: Path) -> str:
    """Hash the content of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_contract(directory: Path) -> Contract:
    """Read the contract of a bundle, and compare the hashes of its files.

    Raises:
        BundleError: It is no bundle, a file is missing, or is not the one that was exported.
    """
    path = directory / CONTRACT
    if not directory.is_dir():
        raise BundleError(f"{directory} is no folder; expected one that lit-rl export --bundle wrote")
    try:
        content = files.load_json(path)
    except OSError as error:
        raise BundleError(
            f"{path} cannot be read ({error}); expected a folder that lit-rl export --bundle wrote"
        ) from error
    except ValueError as error:
        raise BundleError(f"{path} is damaged: it is no JSON; export the bundle again") from error
    if content.get("format") != FORMAT:
        raise BundleError(f"{path} is of no policy bundle: expected format = {FORMAT!r}")
    if content.get("version") != VERSION:
        raise BundleError(
            f"{path} has version {str(content.get('version'))[:20]}, this lit_rl reads {VERSION}; export the "
            "bundle again, or install the lit_rl that wrote it"
        )
    contract = _from_dict(content, path)
    if hash_of(contract.spec) != contract.spec_sha256:
        raise BundleError(f"{path}: spec was changed after the export: spec_sha256 is of another one")
    for name in (ONNX, PROGRAM, PAIRS):
        if not (directory / name).is_file():
            raise BundleError(f"{directory / name} is missing; export the bundle again")
        if hash_of_file(directory / name) != contract.files.get(name):
            raise BundleError(
                f"{directory / name} is not the file that was exported: its SHA-256 differs from the one in "
                f"{CONTRACT}"
            )
    return contract


def _from_dict(content: Mapping[str, Any], path: Path) -> Contract:
    kinds: dict[str, type | tuple[type, ...]] = {
        "environment": dict, "spec": dict, "spec_sha256": str, "inputs": list, "action": dict, "memory": list,
        "machine": (dict, type(None)), "trials": dict, "measured": dict, "trained": dict, "files": dict,
    }  # fmt: skip
    for entry in fields(Contract):
        if not isinstance(content.get(entry.name), kinds[entry.name]):
            raise BundleError(f"{path}: {entry.name} is missing or of another kind; export the bundle again")
    values = {entry.name: content[entry.name] for entry in fields(Contract)}
    try:
        values["inputs"] = [Port(**port) for port in values["inputs"]]
        values["action"] = Port(**values["action"])
        values["memory"] = [Memory(**memory) for memory in values["memory"]]
        _spec_of(values["spec"])
        for port in (*values["inputs"], values["action"], *values["memory"]):
            _check_port(port)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BundleError(f"{path}: spec, inputs, action or memory is damaged ({error})") from error
    return Contract(**values)


def _check_port(port: Port | Memory) -> None:
    is_shape = isinstance(port.shape, list) and all(
        isinstance(size, int) and size >= 0 for size in port.shape
    )
    if not is_shape or np.dtype(port.dtype).kind not in "fiub":
        raise ValueError(f"a port has shape {str(port.shape)[:40]} and dtype {str(port.dtype)[:20]}")
    names = [port.input, port.output] if isinstance(port, Memory) else [port.name]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"a port has the names {str(names)[:60]}")
    if isinstance(port, Memory):
        initial, size = port.initial, math.prod(port.shape)
        is_flat = isinstance(initial, list) and len(initial) == size
        if not is_flat or not all(
            isinstance(value, int | float) and math.isfinite(value) for value in initial
        ):
            raise ValueError(f"initial of {port.input:.40} must be {size} numbers of at most 1e38")


def differences(now: Any, then: Any, name: str = "") -> Sequence[str]:
    """Say in which entries two plain values differ.

    Args:
        now: The value here.
        then: The value in a contract.
        name: Name of the value.

    Returns:
        One text per entry that differs, with its dotted name.
    """
    if isinstance(now, dict) and isinstance(then, dict):
        return [
            text
            for key in {**then, **now}
            for text in differences(now.get(key), then.get(key), f"{name}.{key}" if name else str(key))
        ]
    return [] if now == then else [f"{name} is {_short(then)} in the contract, {_short(now)} here"]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
