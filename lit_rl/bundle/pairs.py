"""Pairs of observation and action that travel with a policy, and tell whether it still is the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lit_rl.bundle.contract import PAIRS, BundleError, Contract
from lit_rl.bundle.onnx_policy import RESET, OnnxPolicy

EPISODES, STEPS = 4, 8
"""Pairs are the first steps of several episodes, so that they span resets; 32 in all."""
TOLERANCE = 1e-5
"""Largest error of a real number of an action."""


def read_pairs(directory: Path, contract: Contract) -> dict[str, np.ndarray]:
    """Read the pairs, arrays ``(pairs, ...)`` by name: observations, ``reset`` and ``action``.

    Raises:
        BundleError: An array is missing, or of another shape or dtype than the contract says.
    """
    path = directory / PAIRS
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise BundleError(f"{path} cannot be read: {str(error)[:200]}") from error
    num = len(arrays[RESET]) if arrays.get(RESET, np.empty(0)).ndim == 1 else 0
    wanted = [(port.name, port.shape, port.dtype) for port in (*contract.inputs, contract.action)]
    for name, shape, dtype in [*wanted, (RESET, [], "bool")]:
        array = arrays.get(name)
        if array is None or num == 0 or array.shape != (num, *shape) or array.dtype != dtype:
            got = "nothing" if array is None else f"{array.dtype} {array.shape}"
            raise BundleError(f"{path}: {name} must be {dtype} {(max(num, 1), *shape)}, got {got}")
    return arrays


def replay(policy: OnnxPolicy, pairs: dict[str, np.ndarray]) -> float:
    """Let a policy decide on all observations, one after the other.

    Returns:
        Largest error of a real number of an action; choices must be equal.

    Raises:
        BundleError: An action differs; the message names the pair and the entry.
    """
    contract, largest = policy.contract, 0.0
    memory = policy.initial_memory(1)
    for pair in range(len(pairs[RESET])):
        row = {name: array[pair : pair + 1] for name, array in pairs.items()}
        action, memory = policy.act(row, memory, row[RESET])
        expected = pairs[contract.action.name][pair]
        error = np.abs(action[0].astype(np.float64) - expected.astype(np.float64))
        error = np.where(np.isnan(error), np.inf, error)
        worst = np.unravel_index(int(error.argmax()), error.shape)
        is_real = np.issubdtype(expected.dtype, np.floating)
        if error[worst] > (TOLERANCE if is_real else 0):
            entry = f"action[{', '.join(map(str, worst))}]" if worst else "action"
            raise BundleError(
                f"pair {pair} does not match: {entry} is {action[0][worst]}, recorded was {expected[worst]} "
                f"(largest error {TOLERANCE:g}): policy and pairs are not of one export"
            )
        largest = max(largest, float(error[worst]))
    return largest
