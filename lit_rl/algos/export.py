"""Policies without Lightning: a learner is loaded from its checkpoint, or exported with ``torch.export``.

Axes: N environments. The exported file is loaded by plain PyTorch::

    policy = torch.export.load("policy.pt2").module()
    action = policy(torch.as_tensor(obs)[None])[0]  # obs: (N, ...) float32, here N = 1
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_rl.algos.module import RLModule
from lit_rl.algos.names import Named
from lit_rl.nested import map_nested
from lit_rl.types import ALIVE, STATE, EnvSpec, LeafSpec, Nested


def load_policy(path: str | Path, classes: Sequence[Named] = (), **arguments: Any) -> RLModule:
    """Load the learner of a checkpoint, on the CPU, ready to ``act``.

    The checkpoint is read as data: it may name classes of lit_rl and those given here, nothing else.

    Args:
        path: A checkpoint written by a run.
        classes: Classes of yours that the checkpoint may name: its learner, encoders.
        **arguments: Constructor arguments that are Python objects (an encoder), which checkpoints cannot
            hold, and others that replace those in the checkpoint.

    Raises:
        ValueError: The file is no checkpoint of lit_rl, or names a class that is neither of lit_rl nor given.
    """
    return RLModule.load_from_checkpoint(path, map_location="cpu", classes=classes, **arguments).eval()


class GreedyPolicy(nn.Module):
    """The greedy policy of a learner, in the form that ``torch.export`` takes.

    It is called as ``forward(obs) -> action``, and as ``forward(obs, carry, reset) -> (action, carry)`` where
    the policy has memory.
    """

    def __init__(self, learner: RLModule) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, obs: Nested, carry: Nested | None = None, reset: Tensor | None = None) -> Any:
        """Choose greedy actions for ``obs`` ``(N, ...)``."""
        decision = self.learner.act(obs, carry or {}, reset, greedy=True)  # type: ignore[arg-type]  # memoryless: no reset
        return (decision.action, decision.carry) if carry else decision.action


def export_policy(
    checkpoint: str | Path, out: str | Path, classes: Sequence[Named] = (), **arguments: Any
) -> Path:
    """Write the greedy policy of ``checkpoint`` to ``out`` (``.pt2``), for any number of environments.

    ``classes`` and ``arguments`` are those of :func:`load_policy`.

    Returns:
        Path of the file that was written.

    Raises:
        ValueError: ``out`` does not end in ``.pt2``, or ``checkpoint`` is not one.
    """
    out = Path(out)
    if out.suffix != ".pt2":
        raise ValueError(f"out must end in .pt2 (the format of torch.export), got {out}")
    learner = load_policy(checkpoint, classes, **arguments)
    spec = learner.spec
    obs = example_observation(spec, 2)  # type: ignore[arg-type]  # a loaded learner knows its spec
    carry = learner.initial_carry(2)
    batch = torch.export.Dim("batch", min=1)
    inputs: tuple[Any, ...] = (obs, carry, torch.zeros(2, dtype=torch.bool)) if carry else (obs,)
    dynamic = tuple(map_nested(lambda _: {0: batch}, value) for value in inputs)
    with torch.no_grad():
        program = torch.export.export(GreedyPolicy(learner), inputs, dynamic_shapes=dynamic)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, out)
    return out


def example_observation(spec: EnvSpec, num_envs: int) -> Nested:
    """Make an observation ``(N, ...)`` of zeros, in which all actions are allowed and all agents alive."""
    agents = [len(spec.agents)] if spec.agents else []

    def example(leaf: LeafSpec | dict[str, Any], key: str = "") -> Nested:
        if isinstance(leaf, dict):
            return {name: example(value, name) for name, value in leaf.items()}
        shape = (num_envs, *agents, *leaf.shape)
        if leaf.categories:
            return (
                torch.ones(shape, dtype=torch.int64)
                if key == "action_mask"
                else torch.zeros(shape, dtype=torch.int64)
            )
        return torch.ones(shape) if agents and key == ALIVE else torch.zeros(shape)

    obs = example(spec.observation)
    return obs | {STATE: torch.zeros(num_envs, spec.state)} if spec.state else obs
