"""Policies without Lightning: a learner is loaded from its checkpoint, or exported with ``torch.export``.

Axes: N environments. The exported file is loaded by plain PyTorch::

    policy = torch.export.load("policy.pt2").module()
    action = policy(torch.as_tensor(obs)[None])[0]  # obs: (N, ...), here N = 1

It takes what the environment returns, real numbers as float32 and integers (images, choices) in the dtype of
their space, and returns what the environment receives: boxes clipped, choices counted from the ``start`` of
the space, in its dtype. A part ``critic`` of observations, which only critics see, is left out. Observations
of several agents are arranged as ``ParallelVectorEnv`` does it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from lit_rl.algos.module import RLModule
from lit_rl.algos.names import Named
from lit_rl.env_units import ActionToEnv, input_dtype, observation_from_env
from lit_rl.files import replacing
from lit_rl.nested import map_nested
from lit_rl.types import ACTION_MASK, ALIVE, STATE, EnvSpec, LeafSpec, Nested


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
    """The greedy policy of a learner, in the form that ``torch.export`` takes and the environment speaks.

    It is called as ``forward(obs) -> action``, and as ``forward(obs, carry, reset) -> (action, carry)`` where
    the policy has memory.
    """

    def __init__(self, learner: RLModule, spec: EnvSpec) -> None:
        super().__init__()
        self.learner, self.to_env = learner, ActionToEnv(spec.action)
        self._observation = spec.observation

    def forward(self, obs: Nested, carry: Nested | None = None, reset: Tensor | None = None) -> Any:
        """Choose greedy actions for ``obs`` ``(N, ...)``."""
        seen = observation_from_env(self._observation, obs)
        decision = self.learner.act(seen, carry or {}, reset, greedy=True)  # type: ignore[arg-type]  # memoryless: no reset
        action = self.to_env(decision.action)
        return (action, decision.carry) if carry else action


def export_policy(
    checkpoint: str | Path, out: str | Path, classes: Sequence[Named] = (), **arguments: Any
) -> Path:
    """Write the greedy policy of ``checkpoint`` to ``out`` (``.pt2``), for any number of environments.

    ``classes`` and ``arguments`` are those of :func:`load_policy`.

    Returns:
        Path of the file that was written.

    Raises:
        OSError: ``out`` cannot be written; a file of that name stays as it was.
        ValueError: ``out`` does not end in ``.pt2``, or ``checkpoint`` is not one.
    """
    out = Path(out)
    if out.suffix != ".pt2":
        raise ValueError(f"out must end in .pt2 (the format of torch.export), got {out}")
    program = policy_program(load_policy(checkpoint, classes, **arguments))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as beside, beside.open("xb") as file:
        torch.export.save(program, file)
    return out


def policy_program(learner: RLModule) -> torch.export.ExportedProgram:
    """Trace the greedy policy of a loaded learner, for any number of environments.

    It takes the observation, and the memory and ``reset`` where the policy has memory; it returns the action,
    and the next memory.
    """
    spec = cast("EnvSpec", learner.spec).of_actor()  # a loaded learner knows it
    obs = example_observation(spec, 2)
    carry = learner.initial_carry(2)
    batch = torch.export.Dim("batch", min=1)
    inputs: tuple[Any, ...] = (obs, carry, torch.zeros(2, dtype=torch.bool)) if carry else (obs,)
    dynamic = tuple(map_nested(lambda _: {0: batch}, value) for value in inputs)
    with torch.no_grad():
        return torch.export.export(GreedyPolicy(learner, spec), inputs, dynamic_shapes=dynamic)


def example_observation(spec: EnvSpec, num_envs: int) -> Nested:
    """Make an observation ``(N, ...)`` as the environment returns it.

    It holds the smallest choices, and zeros; all actions are allowed and all agents alive.
    """
    agents = [len(spec.agents)] if spec.agents else []

    def example(leaf: LeafSpec | dict[str, Any], key: str = "") -> Nested:
        if isinstance(leaf, dict):
            return {name: example(value, name) for name, value in leaf.items()}
        shape, dtype = (num_envs, *agents, *leaf.shape), input_dtype(leaf)
        if key == ACTION_MASK or (agents and key == ALIVE):
            return torch.ones(shape, dtype=dtype)
        start = torch.tensor(leaf.start, dtype=dtype).reshape(leaf.shape) if leaf.start else 0
        return torch.zeros(shape, dtype=dtype) + start

    obs = example(spec.observation)
    return obs | {STATE: torch.zeros(num_envs, spec.state)} if spec.state else obs
