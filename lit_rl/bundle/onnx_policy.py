"""A bundled policy in onnxruntime: what a robot runs, and what ``lit-rl verify-policy`` drives.

Axes: N environments.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np

from lit_rl.bundle.contract import ONNX, BundleError, Contract

RESET = "reset"
"""Name of the input that tells a policy with memory where episodes begin."""

ONNX_NAMES = {"float32": "float", "float64": "double"}
"""What ONNX calls dtypes whose names differ from those of numpy."""


class OnnxPolicy:
    """Runs ``policy.onnx`` on numpy arrays.

    Args:
        directory: The bundle.
        contract: Its contract.

    Raises:
        BundleError: onnxruntime is missing, cannot read the file, or the file has inputs or outputs of other
            names, shapes or dtypes than the contract.
    """

    def __init__(self, directory: Path, contract: Contract) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BundleError(
                "onnxruntime is not installed, and a bundle is run by it: pip install 'lit-rl[bundle]'"
            ) from error
        path = directory / ONNX
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # classes of its own, without a common base
            raise BundleError(f"{path} cannot be read by onnxruntime: {str(error)[:200]}") from error
        self.contract = contract
        expected = [port.name for port in contract.inputs] + [memory.input for memory in contract.memory]
        expected += [RESET] if contract.memory else []
        got = [port.name for port in self._session.get_inputs()]
        if sorted(got) != sorted(expected):
            raise BundleError(f"{path} has the inputs {got}, the contract says {expected}")
        kinds = {port.name: (port.type, port.shape[1:]) for port in self._session.get_inputs()}
        named = [(port.name, port) for port in contract.inputs]
        for name, port in [*named, *((memory.input, memory) for memory in contract.memory)]:
            says = (f"tensor({ONNX_NAMES.get(port.dtype, port.dtype)})", port.shape)
            if kinds[name] != says:
                raise BundleError(f"{path}: the input {name} is {kinds[name]}, the contract says {says}")
        self._outputs = [contract.action.name, *(memory.output for memory in contract.memory)]
        got = [port.name for port in self._session.get_outputs()]
        if got != self._outputs:
            raise BundleError(f"{path} has the outputs {got}, the contract says {self._outputs}")

    def initial_memory(self, num_envs: int) -> dict[str, np.ndarray]:
        """Return what is remembered before the first step, arrays ``(N, ...)`` by the names of the inputs."""
        return {
            memory.input: np.broadcast_to(
                np.array(memory.initial, memory.dtype).reshape(memory.shape), (num_envs, *memory.shape)
            ).copy()
            for memory in self.contract.memory
        }

    def act(
        self, inputs: Mapping[str, np.ndarray], memory: Mapping[str, np.ndarray], reset: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Decide for N environments.

        Args:
            inputs: The observation that the environment returned, arrays ``(N, ...)`` by the names that the
                contract gives them.
            memory: The memory that the last call returned, or :meth:`initial_memory`.
            reset: ``(N,)`` bool, True where ``obs`` is the first of an episode.

        Returns:
            Actions ``(N, ...)``, and the next memory.
        """
        feed = {
            port.name: np.ascontiguousarray(inputs[port.name], port.dtype) for port in self.contract.inputs
        }
        if self.contract.memory:
            feed |= {**memory, RESET: np.asarray(reset, bool)}
        action, *rest = cast("list[np.ndarray]", self._session.run(self._outputs, feed))
        names = [kept.input for kept in self.contract.memory]
        return action, dict(zip(names, rest, strict=True))
