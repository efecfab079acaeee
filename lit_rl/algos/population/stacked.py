"""Calls all policies of a population at once, on their stacked weights.

Axes: V members; ... stands for any further axes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_rl.algos.ppo.policy import ProximalPolicy


class Stack:
    """Tensors of policies of the same architecture, to be stacked name by name.

    Where they are is looked up once, because that takes as long as a small gradient step; what they are is
    asked for anew in every call.

    Args:
        policies: The policies.
        needs: Beginnings of the names of the parameters and buffers that calls use. Buffers of networks are
            constants, which members share.
    """

    def __init__(self, policies: Sequence[ProximalPolicy], needs: tuple[str, ...]) -> None:
        self._policies = list(policies)
        found = [name for name, _ in policies[0].named_parameters()]
        found += [name for name, _ in policies[0].named_buffers() if not name.startswith("network.")]
        self._names = [name for name in found if name.startswith(needs)]
        self._places = [
            [(policy.get_submodule(path), leaf) for policy in policies]
            for path, _, leaf in (name.rpartition(".") for name in self._names)
        ]

    def call(
        self,
        call: Callable[..., Any],
        *inputs: Any,
        axis: int,
        randomness: Literal["error", "different"] = "error",
    ) -> Any:
        """Compute ``call(policy, *inputs)`` for every policy, in one batch.

        Args:
            call: Uses no tensors of the policy that differ between members but those that are needed.
            inputs: What it is given besides, trees of tensors.
            axis: Axis of the members in these.
            randomness: ``different`` lets every member draw its own random numbers.

        Returns:
            What the call returns, with the members as first axis of every tensor ``(V, ...)``; gradients
            reach the parameters of each policy.
        """
        tensors = {
            name: torch.stack([getattr(module, leaf) for module, leaf in of_all])
            for name, of_all in zip(self._names, self._places, strict=True)
        }
        with_tensors = _Call(self._policies[0], call).with_tensors
        axes = (0, *[axis] * len(inputs))
        return torch.vmap(with_tensors, in_dims=axes, randomness=randomness)(tensors, *inputs)


class _Call(nn.Module):
    """Calls a function of one policy with tensors of another in place of its own."""

    def __init__(self, policy: ProximalPolicy, call: Callable[..., Any]) -> None:
        super().__init__()
        self.policy, self._call = policy, call

    def with_tensors(self, tensors: dict[str, Tensor], *inputs: Any) -> Any:
        named = {f"policy.{name}": tensor for name, tensor in tensors.items()}
        # an encoder that actor and critic share is one module, and would not be put back under two names
        return torch.func.functional_call(self, named, inputs, tie_weights=False)

    def forward(self, *inputs: Any) -> Any:
        return self._call(self.policy, *inputs)
